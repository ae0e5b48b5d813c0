/* What of a client's head goes up in a form of Postern's own. */
#include "../test.h"

#include "flow_steps.h"

/* What goes up as traceparent when `given` comes in; NULL: a new one. */
static void traces(const char *given, const char *sent)
{
    struct flow f;
    char request[512];

    flow_start(&f);
    int c = flow_connect(&f);
    (void)snprintf(request, sizeof(request),
                   "GET /w/blue/x HTTP/1.1\r\nHost: app.example\r\ntraceparent: %s\r\n"
                   "tracestate: a=1\r\n\r\n",
                   given);
    flow_send(c, request);
    int up = flow_accept(&f);
    const char *head = flow_read_head(up);
    has(head, sent != NULL ? sent : "\r\ntraceparent: 00-");
    if (sent != NULL) {
        has(head, "\r\ntracestate: a=1\r\n");
    } else {
        lacks(head, "tracestate");
        lacks(head, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-");
    }
    close(c);
    close(up);
    flow_stop(&f);
}

static void continues_a_trace(void **state)
{
#define TRACE "-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
    (void)state;
    traces("00" TRACE "01", "\r\ntraceparent: 00" TRACE "01\r\n");
    traces("00" TRACE "00", "\r\ntraceparent: 00" TRACE "00\r\n");
    /* a later version is continued in ours, which knows one flag */
    traces("01" TRACE "03", "\r\ntraceparent: 00" TRACE "01\r\n");
    traces("cc" TRACE "0e-more", "\r\ntraceparent: 00" TRACE "00\r\n");
    traces("ff" TRACE "01", NULL);
    traces("cc" TRACE "01more", NULL);
    traces("00" TRACE "01-more", NULL);
    traces("00" TRACE "1", NULL);
    traces("00" TRACE "0A", NULL);
    traces("00-00000000000000000000000000000000-00f067aa0ba902b7-01", NULL);
#undef TRACE
}

static const char told[] =
    "GET /w/blue/x HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-For: 6.6.6.6\r\n"
    "X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: Shown.Example\r\n"
    "Forwarded: for=6.6.6.6\r\nX-Forwarded-Port: 99\r\nX-Real-IP: 6.6.6.6\r\n\r\n";

static void believes(bool trusted, const char *request, const char *const *sent)
{
    struct flow f;

    memset(&f, 0, sizeof(f));
    flow_config(&f);
    assert_int_equal(pst_cidr_parse(PST_LIT("127.0.0.1/32"), &f.trusted), PST_OK);
    f.listener.trusted_count = trusted ? 1 : 0;
    flow_run(&f);
    int c = flow_connect(&f);
    flow_send(c, request);
    int up = flow_accept(&f);
    const char *head = flow_read_head(up);
    for (; *sent != NULL; sent++)
        has(head, *sent);
    lacks(head, "X-Forwarded-Port");
    lacks(head, "X-Real-IP");
    if (!trusted)
        lacks(head, "6.6.6.6");
    close(c);
    close(up);
    flow_stop(&f);
}

static void believes_declared_peers_only(void **state)
{
    static const char *const by_itself[] = {
        "\r\nX-Forwarded-For: 127.0.0.1\r\n", "\r\nX-Forwarded-Proto: http\r\n",
        "\r\nX-Forwarded-Host: app.example\r\n",
        "\r\nForwarded: for=127.0.0.1;host=\"app.example\";proto=http\r\n", NULL};
    static const char *const extended[] = {
        "\r\nX-Forwarded-For: 6.6.6.6, 7.7.7.7, 127.0.0.1\r\n", "\r\nX-Forwarded-Proto: https\r\n",
        "\r\nX-Forwarded-Host: shown.example\r\n",
        "\r\nForwarded: for=6.6.6.6, for=127.0.0.1;host=\"shown.example\";proto=https\r\n", NULL};
    (void)state;
    believes(false, told, by_itself);
    believes(true, told, extended);
    /* what is no scheme and no host is believed of nobody */
    believes(true,
             "GET /w/blue/x HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-Proto: gopher\r\n"
             "X-Forwarded-Host: a b\r\n\r\n",
             by_itself);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(continues_a_trace),
        cmocka_unit_test(believes_declared_peers_only),
    };
    return cmocka_run_group_tests_name("proxy/rewrite", tests, NULL, NULL);
}
