/* malloc_fail.c - a library to be preloaded: the POSTERN_FAIL_AT-th allocation of the process
 * fails, and each POSTERN_FAIL_EACH-th behind it (0: only the one). It says how many there were at
 * the end when POSTERN_FAIL_COUNT names a file. Allocations before main, those of the loader,
 * count, too. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static _Atomic unsigned long count;
static unsigned long fail_at, fail_each;
static char early[65536]; /* dlsym allocates before there is anybody to ask */
static size_t early_used;

static unsigned long number(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : strtoul(text, NULL, 10);
}

static void say_count(void)
{
    const char *path = getenv("POSTERN_FAIL_COUNT");
    char text[32];

    if (path == NULL)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int size = snprintf(text, sizeof(text), "%lu\n", atomic_load(&count));
    if (fd < 0 || write(fd, text, (size_t)size) != size)
        abort();
    close(fd);
}

/* At the first allocation, which is before any constructor of ours: there is one thread then. */
static bool begun(void)
{
    static bool begins;

    if (real_malloc != NULL || begins)
        return real_malloc != NULL;
    begins = true;
    *(void **)&real_calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&real_malloc = dlsym(RTLD_NEXT, "malloc");
    fail_at = number("POSTERN_FAIL_AT");
    fail_each = number("POSTERN_FAIL_EACH");
    atexit(say_count);
    return true;
}

static bool fails(void)
{
    unsigned long n = atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) + 1;

    if (fail_at == 0 || n < fail_at ||
        (n > fail_at && (fail_each == 0 || (n - fail_at) % fail_each != 0)))
        return false;
    errno = ENOMEM;
    return true;
}

static void *take_early(size_t size)
{
    size_t at = (early_used + 15) & ~(size_t)15;

    if (size > sizeof(early) - at)
        abort();
    early_used = at + size;
    return early + at;
}

void *malloc(size_t size)
{
    if (!begun())
        return take_early(size);
    return fails() ? NULL : real_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    if (!begun())
        return take_early(n * size);
    return fails() ? NULL : real_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    if (!begun() || ((char *)old >= early && (char *)old < early + sizeof(early))) {
        void *block = malloc(size);
        size_t most = old == NULL ? 0 : (size_t)(early + sizeof(early) - (char *)old);
        if (block != NULL && old != NULL)
            memcpy(block, old, size < most ? size : most);
        return block;
    }
    return fails() ? NULL : real_realloc(old, size);
}

void free(void *block)
{
    static void (*real_free)(void *);

    if (block == NULL || ((char *)block >= early && (char *)block < early + sizeof(early)))
        return;
    if (real_free == NULL)
        *(void **)&real_free = dlsym(RTLD_NEXT, "free");
    real_free(block);
}
