/*
 * redis.h - a real Redis of the test's own: started on free ports in a directory of its own, asked
 * through hiredis, stopped by its pid. It dies with the test.
 */
#ifndef POSTERN_TESTS_UNIT_SYNC_REDIS_H
#define POSTERN_TESTS_UNIT_SYNC_REDIS_H

#include "../test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define REDIS_ARGS_MAX 48

struct redis {
    pid_t pid; /* 0: does not run */
    char dir[64], socket[96], port[8], tls_port[8], password[64];
    const char *more[REDIS_ARGS_MAX]; /* further arguments, NULL-terminated */
};

static inline void free_port(char out[8])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    (void)snprintf(out, 8, "%d", ntohs(at.sin_port));
}

/* Runs a program, its output in `dir`/log. */
static inline pid_t spawn(const char *dir, char *const *argv)
{
    char log[96];

    (void)snprintf(log, sizeof(log), "%s/log", dir);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fd, 1);
    dup2(fd, 2);
    for (fd = 3; fd < 64; fd++)
        close(fd); /* a socket of the test that lives on here would never be closed for its peer */
    execvp(argv[0], argv);
    _exit(127);
}

static inline void say_why_it_ended(const struct redis *r, const char *program)
{
    char log[96], text[400] = "";

    (void)snprintf(log, sizeof(log), "%s/log", r->dir);
    int fd = open(log, O_RDONLY);
    (void)!read(fd, text, sizeof(text) - 1);
    close(fd);
    fail_msg("%s does not start (is the Debian package %s installed?): %s", program, program, text);
}

/* NULL: nobody there yet. */
static inline redisContext *redis_open(const struct redis *r)
{
    struct timeval wait = {.tv_sec = 2};
    redisContext *c = redisConnectUnixWithTimeout(r->socket, wait);

    if (c != NULL && c->err == 0) {
        redisSetTimeout(c, wait);
        if (r->password[0] != '\0')
            freeReplyObject(redisCommand(c, "AUTH %s", r->password));
        return c;
    }
    redisFree(c);
    return NULL;
}

/* One command; its answer (of an array the first element) as text, valid until the next. */
static inline const char *redis_ask(const struct redis *r, const char *format, ...)
{
    static char text[256];
    va_list args;
    redisContext *c = redis_open(r);

    text[0] = '\0';
    if (c == NULL)
        return text;
    va_start(args, format);
    redisReply *reply = redisvCommand(c, format, args);
    va_end(args);
    redisReply *at = reply;
    while (at != NULL && at->type == REDIS_REPLY_ARRAY && at->elements > 0)
        at = at->element[0];
    if (at != NULL && at->type == REDIS_REPLY_INTEGER)
        (void)snprintf(text, sizeof(text), "%lld", at->integer);
    else if (at != NULL && at->str != NULL)
        (void)snprintf(text, sizeof(text), "%s", at->str);
    freeReplyObject(reply);
    redisFree(c);
    return text;
}

static inline void redis_await(struct redis *r, const char *program)
{
    for (int i = 0; i < 500; i++) {
        if (strcmp(redis_ask(r, "PING"), "PONG") == 0)
            return;
        if (waitpid(r->pid, NULL, WNOHANG) != 0) {
            r->pid = 0;
            say_why_it_ended(r, program);
        }
        usleep(10000);
    }
    fail_msg("%s does not answer", program);
}

static inline void redis_dir(struct redis *r)
{
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/postern-redis-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    (void)snprintf(r->socket, sizeof(r->socket), "%s/socket", r->dir);
    free_port(r->port);
}

/* Starts it, again too: on the same port, in the same directory. */
static inline void redis_run(struct redis *r)
{
    const char *argv[REDIS_ARGS_MAX + 24] = {
        "redis-server", "--port",     r->port,   "--bind", "127.0.0.1", "--unixsocket",
        r->socket,      "--dir",      r->dir,    "--save", "",          "--appendonly",
        "no",           "--loglevel", "warning", NULL};
    int n = 15;

    if (r->password[0] != '\0') {
        argv[n++] = "--requirepass";
        argv[n++] = r->password;
    }
    for (int i = 0; r->more[i] != NULL; i++)
        argv[n++] = r->more[i];
    argv[n] = NULL;
    unlink(r->socket);
    r->pid = spawn(r->dir, (char *const *)(uintptr_t)argv);
    redis_await(r, "redis-server");
}

static inline void redis_start(struct redis *r, const char *password)
{
    memset(r, 0, sizeof(*r));
    (void)snprintf(r->password, sizeof(r->password), "%s", password);
    redis_dir(r);
    redis_run(r);
}

static inline void redis_signal(struct redis *r, int number)
{
    assert_true(r->pid > 0);
    assert_int_equal(kill(r->pid, number), 0);
}

static inline void redis_end(struct redis *r, int number)
{
    if (r->pid <= 0)
        return;
    kill(r->pid, number);
    kill(r->pid, SIGCONT);
    waitpid(r->pid, NULL, 0);
    r->pid = 0;
}

static inline void redis_stop(struct redis *r)
{
    char command[128];

    redis_end(r, SIGKILL);
    (void)snprintf(command, sizeof(command), "rm -r '%s'", r->dir);
    assert_int_equal(system(command), 0);
}

#endif
