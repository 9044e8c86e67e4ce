/* Reads of files below one folder go no faster than a shared rate: a disk or a mount, made slow.
 *
 *     cc -O2 -shared -fPIC -o throttle.so throttle.c -ldl
 *     LD_PRELOAD=throttle.so THROTTLE_FOLDER=/data THROTTLE_CLOCK=/tmp/clock \
 *         THROTTLE_RATE=200e6 program
 *
 * All processes that name the same clock share the rate. The clock holds the time at which the
 * storage is free again; a read of n bytes moves it by n / rate and sleeps until then. Time that
 * nobody used is kept for AHEAD, as a system that reads ahead would have used it. Files that are
 * mapped are not slowed: programs that can read them instead are to be told to.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const int64_t AHEAD = 20000000; /* ns */
static _Atomic int64_t *busy_until;
static const char *folder;
static double rate;

__attribute__((constructor)) static void start(void) {
    folder = getenv("THROTTLE_FOLDER");
    const char *path = getenv("THROTTLE_CLOCK"), *speed = getenv("THROTTLE_RATE");
    if (!folder || !path || !speed) return;
    rate = atof(speed);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *busy_until)) abort();
    busy_until = mmap(NULL, sizeof *busy_until, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (busy_until == MAP_FAILED) abort();
    close(fd);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int is_slow(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return !strncmp(path, folder, strlen(folder));
}

static ssize_t paid(int fd, ssize_t n) {
    if (n <= 0 || !busy_until || !is_slow(fd)) return n;
    int64_t took = (int64_t)(1e9 * n / rate), seen = atomic_load(busy_until), free_at, t = now() - AHEAD;
    do
        free_at = (seen > t ? seen : t) + took;
    while (!atomic_compare_exchange_weak(busy_until, &seen, free_at));
    struct timespec until = {free_at / 1000000000, free_at % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {}
    return n;
}

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *p, size_t n) { return paid(fd, NEXT(read)(fd, p, n)); }
ssize_t pread(int fd, void *p, size_t n, off_t at) { return paid(fd, NEXT(pread)(fd, p, n, at)); }
ssize_t pread64(int fd, void *p, size_t n, off64_t at) {
    return paid(fd, NEXT(pread64)(fd, p, n, at));
}
ssize_t readv(int fd, const struct iovec *v, int n) { return paid(fd, NEXT(readv)(fd, v, n)); }
ssize_t preadv(int fd, const struct iovec *v, int n, off_t at) {
    return paid(fd, NEXT(preadv)(fd, v, n, at));
}
ssize_t preadv64(int fd, const struct iovec *v, int n, off64_t at) {
    return paid(fd, NEXT(preadv64)(fd, v, n, at));
}
ssize_t sendfile(int out, int in, off_t *at, size_t n) {
    return paid(in, NEXT(sendfile)(out, in, at, n));
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) {
    return paid(in, NEXT(sendfile64)(out, in, at, n));
}
