/* Answers of other file systems and another clock, put before the C library by LD_PRELOAD.

FAULTY is a list such as "fsync_folder=22,link=1": the calls that fail, with their error numbers. FAULTY_CLOCK is a number of seconds
by which the wall clock is set forward as soon as the file FAULTY_CLOCK_FROM exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int fault(const char *call) {
    const char *at = getenv("FAULTY");
    size_t length = strlen(call);
    while (at && *at) {
        if (!strncmp(at, call, length) && at[length] == '=') {
            errno = atoi(at + length + 1);
            return 1;
        }
        at = strchr(at, ',');
        if (at) at++;
    }
    return 0;
}

/* The C library's own function, under the name ``next``. */
#define NEXT(call) static __typeof__(&call) next; if (!next) next = (__typeof__(&call))dlsym(RTLD_NEXT, #call)

int fsync(int handle) {
    NEXT(fsync);
    struct stat found;
    if (!fstat(handle, &found) && fault(S_ISDIR(found.st_mode) ? "fsync_folder" : "fsync_file")) return -1;
    return next(handle);
}

int link(const char *from, const char *to) {
    NEXT(link);
    return fault("link") ? -1 : next(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    NEXT(linkat);
    return fault("link") ? -1 : next(a, from, b, to, flags);
}

int chmod(const char *path, mode_t mode) {
    NEXT(chmod);
    return fault("chmod") ? -1 : next(path, mode);
}

int fchmodat(int at, const char *path, mode_t mode, int flags) {
    NEXT(fchmodat);
    return fault("chmod") ? -1 : next(at, path, mode, flags);
}

int utimensat(int at, const char *path, const struct timespec times[2], int flags) {
    NEXT(utimensat);
    return fault("utime") ? -1 : next(at, path, times, flags);
}

int flock(int handle, int operation) {
    NEXT(flock);
    return fault("flock") ? -1 : next(handle, operation);
}

static long shift(void) {
    const char *seconds = getenv("FAULTY_CLOCK"), *from = getenv("FAULTY_CLOCK_FROM");
    int kept = errno;
    long found = seconds && from && !access(from, F_OK) ? atol(seconds) : 0;
    errno = kept;
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(clock_gettime);
    int answer = next(clock, now);
    if (!answer && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return answer;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    NEXT(gettimeofday);
    int answer = next(now, zone);
    if (!answer) now->tv_sec += shift();
    return answer;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}
