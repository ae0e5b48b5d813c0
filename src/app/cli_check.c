/*
 * check: one request, decided by the code that serves, or by a running node.
 *
 * The request is written as HTTP and read by the real parser, so that what is checked is what would
 * come in.
 */
#include "cli_check_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "postern/app/yaml.h"
#include "postern/http/target.h"

#define HEAD_ROOM 65536

struct check_args {
    const char *config, *store, *listener, *method, *target, *host, *user, *token, *body, *node;
    const char *headers[PST_CLI_REPEAT_MAX];
    uint32_t header_count;
    bool json;
};

/* --- the request --- */

static void write_request(const struct pst_check_request *in, struct pst_buf *b)
{
    pst_buf_put(b, in->method);
    pst_buf_char(b, ' ');
    pst_buf_put(b, in->target);
    pst_buf_lit(b, " HTTP/1.1\r\nHost: ");
    pst_buf_put(b, in->host);
    for (uint32_t i = 0; i < in->line_count; i++) {
        pst_buf_lit(b, "\r\n");
        pst_buf_put(b, in->lines[i]);
    }
    if (in->token.len > 0) {
        pst_buf_lit(b, "\r\nAuthorization: Bearer ");
        pst_buf_put(b, in->token);
    }
    if (in->body.len > 0) {
        pst_buf_lit(b, "\r\nContent-Length: ");
        pst_buf_u64(b, in->body.len);
    }
    pst_buf_lit(b, "\r\n\r\n");
}

static enum pst_status refuse(struct pst_check_refusal *out, enum pst_reason reason,
                              unsigned status, const char *text)
{
    *out = (struct pst_check_refusal){
        .reason = reason, .status = status == 0 ? 400 : status, .text = text};
    return PST_OK;
}

enum pst_status pst_check_parse(const struct pst_check_request *in, struct pst_arena *arena,
                                struct pst_request *out, struct pst_check_refusal *refusal,
                                struct pst_error *error)
{
    struct pst_buf b = pst_buf_of(pst_arena_alloc(arena, HEAD_ROOM), HEAD_ROOM);
    char *target_room = pst_arena_alloc(arena, HEAD_ROOM),
         *host_room = pst_arena_alloc(arena, PST_HOST_MAX);
    struct pst_head *head = pst_arena_zalloc(arena, sizeof(*head));
    struct pst_h1_parser parser;
    struct pst_host host;
    struct pst_target target;

    *refusal = (struct pst_check_refusal){.status = 0};
    if (b.data == NULL || target_room == NULL || host_room == NULL || head == NULL)
        return pst_error_set(error, PST_E_NOMEM, NULL, "no memory");
    write_request(in, &b);
    if (b.full)
        return pst_error_set(error, PST_E_LIMIT, NULL, "the request's head is too long");

    pst_h1_init_request(&parser, &pst_h1_limits_default);
    if (pst_h1_parse(&parser, pst_buf_bytes(&b), head) != PST_H1_DONE)
        return refuse(refusal, PST_R_BAD_REQUEST, parser.fault.status,
                      parser.fault.reason == NULL ? "incomplete" : parser.fault.reason);
    if (!pst_host_parse(head->host, host_room, &host))
        return refuse(refusal, PST_R_BAD_REQUEST, 400, "the host is not valid");
    struct pst_fault fault = {0};
    if (!pst_target_parse(head->method, head->target, &host, target_room, HEAD_ROOM, &target,
                          &fault))
        return refuse(refusal, PST_R_BAD_TARGET, fault.status, fault.reason);
    *out = (struct pst_request){
        .method = head->method_text,
        .host = host.text,
        .path = target.path,
        .query = target.query,
        .oddities = target.oddities,
        .fields = head->fields,
        .field_count = (uint32_t)head->count,
        .has_body = in->body.len > 0,
        .body = in->body,
        .is_upgrade = head->upgrade != PST_UPGRADE_NONE,
    };
    return PST_OK;
}

/* --- offline --- */

static void print_decision(const struct pst_decide *d, bool json)
{
    char room[16384];
    struct pst_buf why = pst_buf_of(room, sizeof(room));
    const struct pst_decision *out = &d->decision;

    pst_engine_explain(d, json, &why);
    if (json) {
        char more[4096];
        struct pst_buf b = pst_buf_of(more, sizeof(more));
        pst_buf_lit(&b, "{\"verdict\":");
        pst_buf_json(&b, out->verdict == PST_ALLOW ? PST_LIT("allow") : PST_LIT("deny"));
        pst_buf_lit(&b, ",\"status\":");
        pst_buf_u64(&b, out->status);
        pst_buf_lit(&b, ",\"reason\":");
        const char *name = pst_reason_name(out->reason);
        pst_buf_json(&b, pst_bytes_of(name, strlen(name)));
        pst_buf_lit(&b, ",\"user\":");
        pst_buf_json(&b, out->user);
        pst_buf_lit(&b, ",\"workspace\":");
        pst_buf_json(&b, out->workspace);
        pst_buf_lit(&b, ",\"revision\":");
        pst_buf_json(&b, out->revision);
        if (out->allow != NULL) {
            pst_buf_lit(&b, ",\"allow\":");
            pst_buf_json(&b, pst_bytes_of(out->allow, strlen(out->allow)));
        }
        (void)printf("%.*s,\"explanation\":%.*s}\n", (int)b.len, b.data, (int)why.len, why.data);
        return;
    }
    (void)printf("%s %u %s\n%.*s", out->verdict == PST_ALLOW ? "allow" : "deny", out->status,
                 pst_reason_name(out->reason), (int)why.len, why.data);
    if (out->allow != NULL)
        (void)printf("Allow: %s\n", out->allow);
    if (out->detail.len > 0)
        (void)printf("asked: %.*s\n", (int)out->detail.len, out->detail.ptr);
    if (d->credential_fault_ != NULL)
        (void)printf("credential: %s\n", d->credential_fault_);
}

/* The same form as a decision has. */
static void print_refusal(const struct pst_check_refusal *refusal, bool json)
{
    const char *name = pst_reason_name(refusal->reason);

    if (!json) {
        (void)printf("deny %u %s\ndeny (%s): %s\n%s\nasked: nothing; this is refused before any "
                     "decision: %s\n",
                     refusal->status, name, name, pst_reason_text(refusal->reason),
                     pst_reason_advice(refusal->reason), refusal->text);
        return;
    }
    (void)printf("{\"verdict\":\"deny\",\"status\":%u,\"reason\":\"%s\",\"explanation\":{"
                 "\"decision\":\"deny\",\"reason\":\"%s\",\"text\":",
                 refusal->status, name, name);
    pst_cli_json(
        pst_bytes_of(pst_reason_text(refusal->reason), strlen(pst_reason_text(refusal->reason))));
    (void)fputs(",\"detail\":", stdout);
    pst_cli_json(pst_bytes_of(refusal->text, strlen(refusal->text)));
    (void)fputs(",\"advice\":", stdout);
    pst_cli_json(pst_bytes_of(pst_reason_advice(refusal->reason),
                              strlen(pst_reason_advice(refusal->reason))));
    (void)puts("}}");
}

static enum pst_status pick_listener(const struct pst_config *config, const char *name,
                                     uint32_t *out, struct pst_error *error)
{
    for (uint32_t i = 0; i < config->listener_count; i++) {
        const struct pst_listener_source *l = &config->listeners[i];
        bool named = name != NULL && pst_bytes_equal(l->name, pst_bytes_of(name, strlen(name)));
        if (l->kind != PST_DOOR_OPS && (name == NULL || named)) {
            *out = i;
            return PST_OK;
        }
    }
    return pst_error_set(error, PST_E_ABSENT, "--listener", "there is no listener%s%s that decides",
                         name == NULL ? "" : " ", name == NULL ? "" : name);
}

static enum pst_status check_offline(const struct check_args *a, const struct pst_check_request *in,
                                     struct pst_arena *arena, int *code, struct pst_error *error)
{
    struct pst_config *config;
    struct pst_local *local = NULL;
    struct pst_request request;
    struct pst_check_refusal refusal;
    struct pst_decide decide;
    uint32_t listener = 0;
    struct pst_check_request copy = *in;
    enum pst_status status = pst_config_load(pst_cli_config_path(a->config), &config, error);

    if (status != PST_OK)
        return status;
    status = pick_listener(config, a->listener, &listener, error);
    if (status == PST_OK && a->host == NULL) {
        struct pst_bytes host = config->listeners[listener].mounts[0].host;
        copy.host = pst_bytes_equal(host, PST_LIT("*")) ? PST_LIT("localhost") : host;
    }
    if (status == PST_OK)
        status = pst_check_parse(&copy, arena, &request, &refusal, error);
    if (status == PST_OK && refusal.status != 0) {
        print_refusal(&refusal, a->json);
        *code = PST_EXIT_NO;
        pst_config_free(config);
        return PST_OK;
    }
    struct pst_bytes url =
        a->store != NULL ? pst_bytes_of(a->store, strlen(a->store)) : pst_store_url(config, arena);
    if (status == PST_OK)
        status = pst_local_open(config, url, &local, error);
    if (status == PST_OK) {
        const struct pst_who who = {
            .kind = PST_WHO_NAME,
            .value = pst_bytes_of(a->user, a->user == NULL ? 0 : strlen(a->user))};
        pst_local_decide(local, listener, &request, a->user != NULL ? &who : NULL, arena, &decide);
        print_decision(&decide, a->json);
        *code = decide.decision.verdict == PST_ALLOW ? PST_EXIT_YES : PST_EXIT_NO;
        pst_engine_end(&decide);
    }
    pst_local_close(local);
    pst_config_free(config);
    return status;
}

/* --- against a running node: by its auth_request door --- */

static enum pst_status connect_node(const char *node, int *fd, struct pst_error *error)
{
    struct pst_address address;
    struct pst_host_port parts;

    if (pst_address_parse(pst_bytes_of(node, strlen(node)), &address, &parts) != PST_OK ||
        parts.is_name)
        return pst_error_set(
            error, PST_E_INVALID, "--node",
            "expected the address of an auth_request listener: 127.0.0.1:8081 or unix:/path");
    *fd = socket(address.sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval limit = {.tv_sec = 5};
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
        setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0 || /* and connect */
        connect(*fd, &address.sa.any, address.len) != 0)
        return pst_error_set(error, PST_E_IO, node, "cannot be reached: %s",
                             strerror(errno == EINPROGRESS ? ETIMEDOUT : errno));
    return PST_OK;
}

static enum pst_status ask_node(const struct check_args *a, const struct pst_check_request *in,
                                int fd, char *room, struct pst_head *head, struct pst_error *error)
{
    struct pst_buf b = pst_buf_of(room, HEAD_ROOM);
    struct pst_h1_parser parser;
    size_t got = 0;

    pst_buf_lit(&b, "GET /_postern/auth HTTP/1.1\r\nConnection: close\r\nHost: ");
    pst_buf_put(&b, in->host.len > 0 ? in->host : PST_LIT("localhost"));
    pst_buf_lit(&b, "\r\nX-Original-Method: ");
    pst_buf_put(&b, in->method);
    pst_buf_lit(&b, "\r\nX-Original-URI: ");
    pst_buf_put(&b, in->target);
    for (uint32_t i = 0; i < in->line_count; i++) {
        pst_buf_lit(&b, "\r\n");
        pst_buf_put(&b, in->lines[i]);
    }
    if (in->token.len > 0) {
        pst_buf_lit(&b, "\r\nAuthorization: Bearer ");
        pst_buf_put(&b, in->token);
    }
    pst_buf_lit(&b, "\r\n\r\n");
    if (b.full || send(fd, b.data, b.len, MSG_NOSIGNAL) != (ssize_t)b.len)
        return pst_error_set(error, PST_E_IO, a->node, "the request could not be sent");
    pst_h1_init_response(&parser, &pst_h1_limits_default, PST_METHOD_GET);
    for (;;) {
        ssize_t n = got < HEAD_ROOM ? recv(fd, room + got, HEAD_ROOM - got, 0) : 0;
        if (n <= 0)
            return pst_error_set(error, PST_E_IO, a->node, "no whole answer came");
        got += (size_t)n;
        switch (pst_h1_parse(&parser, pst_bytes_of(room, got), head)) {
        case PST_H1_DONE:
            return PST_OK;
        case PST_H1_FAIL:
            return pst_error_set(error, PST_E_IO, a->node, "the answer is no HTTP: %s",
                                 parser.fault.reason);
        case PST_H1_MORE:
            break;
        }
    }
}

static struct pst_bytes field_of(const struct pst_head *head, const char *name)
{
    for (size_t i = 0; i < head->count; i++)
        if (pst_bytes_equal_nocase(head->fields[i].name, pst_bytes_of(name, strlen(name))))
            return head->fields[i].value;
    return (struct pst_bytes){0};
}

static void print_answer(const struct pst_head *head, bool json)
{
    static const char *const FIELDS[][2] = {
        {"X-Postern-Reason", "reason"},     {"X-Postern-Status", "stands_for"},
        {"X-Postern-User", "user"},         {"X-Postern-Workspace", "workspace"},
        {"X-Postern-Roles", "roles"},       {"X-Postern-Decision-Id", "decision_id"},
        {"X-Postern-Revision", "revision"}, {"WWW-Authenticate", "www_authenticate"},
    };
    const char *verdict = head->status == 200 ? "allow" : "deny";

    (void)printf(json ? "{\"verdict\":\"%s\",\"status\":%u" : "%s %u", verdict, head->status);
    for (size_t i = 0; i < sizeof(FIELDS) / sizeof(FIELDS[0]); i++) {
        struct pst_bytes value = field_of(head, FIELDS[i][0]);
        if (value.len == 0)
            continue;
        (void)printf(json ? ",\"%s\":" : "\n%s: ", FIELDS[i][1]);
        if (json)
            pst_cli_json(value);
        else
            (void)fwrite(value.ptr, 1, value.len, stdout);
    }
    (void)puts(json ? "}" : "");
}

static enum pst_status check_node(const struct check_args *a, const struct pst_check_request *in,
                                  struct pst_arena *arena, int *code, struct pst_error *error)
{
    char *room = pst_arena_alloc(arena, HEAD_ROOM);
    struct pst_head *head = pst_arena_zalloc(arena, sizeof(*head));
    int fd = -1;
    enum pst_status status = room == NULL || head == NULL
                                 ? pst_error_set(error, PST_E_NOMEM, NULL, "no memory")
                                 : connect_node(a->node, &fd, error);

    if (status == PST_OK)
        status = ask_node(a, in, fd, room, head, error);
    if (fd >= 0)
        close(fd);
    if (status == PST_OK) {
        print_answer(head, a->json);
        *code = head->status == 200 ? PST_EXIT_YES : PST_EXIT_NO;
    }
    return status;
}

static int usage(const char *what)
{
    (void)fprintf(stderr, "postern check: %s (see postern check --help)\n", what);
    return PST_EXIT_USAGE;
}

/* As pst_cli_options. What would be passed over in silence would give another question's answer. */
static int judge_args(const struct check_args *a)
{
    if (a->target == NULL)
        return usage("name one target, such as /w/blue/pipelines/p1");
    if (a->user != NULL && a->token != NULL)
        return usage("name a user or a token, not both");
    if (a->node == NULL)
        return -1;
    if (a->user != NULL)
        return usage("a node knows a caller by the token alone (-t)");
    if (a->body != NULL || a->store != NULL || a->listener != NULL)
        return usage("--body, --store and --listener are for a decision without a node");
    return -1;
}

/* As pst_cli_options: -1, or the exit code. */
static int read_args(int argc, char **argv, struct check_args *a)
{
    const char *rest[PST_CLI_REPEAT_MAX];
    uint32_t rest_count = 0;
    const struct pst_option options[] = {
        {.name = "--method",
         .letter = 'X',
         .value = "METHOD",
         .help = "default: GET",
         .text = &a->method},
        {.name = "--user",
         .letter = 'u',
         .value = "NAME",
         .help = "decide for this user of the store, without a token",
         .text = &a->user},
        {.name = "--token",
         .letter = 't',
         .value = "TOKEN",
         .help = "the caller's token",
         .text = &a->token},
        {.name = "--header",
         .letter = 'H',
         .value = "'Name: value'",
         .help = "a header line (again for more)",
         .list = a->headers,
         .list_count = &a->header_count},
        {.name = "--body",
         .letter = 'd',
         .value = "FILE",
         .help = "the request's body",
         .text = &a->body},
        {.name = "--host",
         .value = "HOST",
         .help = "default: that of the listener's first mount",
         .text = &a->host},
        {.name = "--listener",
         .value = "NAME",
         .help = "whose mounts decide; default: the first",
         .text = &a->listener},
        {.name = "--config",
         .letter = 'c',
         .value = "FILE",
         .help = "configuration",
         .text = &a->config},
        {.name = "--store",
         .value = "URL",
         .help = "another store than the configuration's",
         .text = &a->store},
        {.name = "--node",
         .value = "ADDRESS",
         .help = "ask a running node through its auth_request listener",
         .text = &a->node},
        {.name = "--json", .help = "as JSON", .flag = &a->json},
        {0},
    };
    int code = pst_cli_options(&pst_command_check, options, argc, argv, rest, &rest_count);

    a->target = rest_count == 1 ? rest[0] : NULL;
    return code >= 0 ? code : judge_args(a);
}

static int run_check(int argc, char **argv)
{
    struct check_args a = {.method = "GET"};
    struct pst_bytes lines[PST_CLI_REPEAT_MAX], body = {0};
    struct pst_error error = {0};
    struct pst_arena arena;
    int code = read_args(argc, argv, &a);

    if (code >= 0)
        return code;
    for (uint32_t i = 0; i < a.header_count; i++)
        lines[i] = pst_bytes_of(a.headers[i], strlen(a.headers[i]));
    pst_arena_init(&arena, 65536, 64u << 20);
    enum pst_status status =
        a.body == NULL ? PST_OK : pst_file_read(a.body, 16u << 20, &body, &error);
    const struct pst_check_request in = {
        .method = pst_bytes_of(a.method, strlen(a.method)),
        .target = pst_bytes_of(a.target, strlen(a.target)),
        .host = pst_bytes_of(a.host, a.host == NULL ? 0 : strlen(a.host)),
        .lines = lines,
        .line_count = a.header_count,
        .token = pst_bytes_of(a.token, a.token == NULL ? 0 : strlen(a.token)),
        .body = body,
    };
    if (status == PST_OK)
        status = a.node != NULL ? check_node(&a, &in, &arena, &code, &error)
                                : check_offline(&a, &in, &arena, &code, &error);
    free((void *)(uintptr_t)body.ptr);
    pst_arena_fini(&arena);
    return status == PST_OK ? code : pst_cli_fail(a.json, &error);
}

const struct pst_command pst_command_check = {
    "check", "Decides one request and says why. Exit code 0: allowed, 1: refused.",
    "[-X METHOD] TARGET (-u USER | -t TOKEN) [-H LINE ...] [-d FILE] [-c CONFIG | --node ADDRESS] "
    "[--json]",
    run_check};
