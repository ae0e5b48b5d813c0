/* clock_stop.c - a library to be preloaded: once the file POSTERN_CLOCK_STOP is there,
 * CLOCK_BOOTTIME stands still. A lease then never ends, which whoever judges the node must notice.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *out)
{
    static int (*real)(clockid_t, struct timespec *);
    static _Atomic long long stopped_ns;
    long long at = atomic_load(&stopped_ns);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    if (id != CLOCK_BOOTTIME || at == 0) {
        int result = real(id, out);
        const char *path = id == CLOCK_BOOTTIME ? getenv("POSTERN_CLOCK_STOP") : NULL;
        if (result == 0 && path != NULL && access(path, F_OK) == 0)
            atomic_store(&stopped_ns, out->tv_sec * 1000000000LL + out->tv_nsec);
        return result;
    }
    out->tv_sec = at / 1000000000;
    out->tv_nsec = at % 1000000000;
    return 0;
}
