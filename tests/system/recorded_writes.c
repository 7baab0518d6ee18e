/* Loaded with LD_PRELOAD, records what a power cut would leave of the files below a folder.

   $RECORD_BELOW is the folder. Each call that makes, renames, removes or syncs something in it adds
   a line to $RECORD_LOG; the content of a synced file is copied to $RECORD_COPIES/NUMBER first.
   Lines: "@ make PATH", "@ folder PATH", "@ rename FROM<tab>TO", "@ remove PATH",
   "@ sync NUMBER PATH", "@ sync-folder PATH". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int copies;

/* Whether a path is in the folder; writes it without symbolic links to FULL. */
static int within(const char *path, char *full) {
    const char *below = getenv("RECORD_BELOW");
    char *name, *copy = strdup(path);
    int found = 0;
    if (below && (name = strrchr(copy, '/'))) {
        *name++ = 0;
        char *real = realpath(*copy ? copy : "/", NULL);
        if (real && strlen(real) + strlen(name) + 2 <= PATH_MAX) {
            strcat(strcat(strcpy(full, real), "/"), name);
            found = !strncmp(full, below, strlen(below)) && full[strlen(below)] == '/';
        }
        free(real);
    }
    free(copy);
    return found;
}

static void record(const char *format, ...) {
    char line[3 * PATH_MAX];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    int log = NEXT(open)(getenv("RECORD_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (log < 0 || write(log, line, length) != length) abort();
    close(log);
}

static int opened(int (*next)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    struct stat there;
    if (!(flags & O_CREAT) || !within(path, full)) return next(path, flags, mode);
    pthread_mutex_lock(&turn);
    int is_new = stat(full, &there) != 0, file = next(path, flags, mode);
    if (is_new && file >= 0) record("@ make %s\n", full);
    pthread_mutex_unlock(&turn);
    return file;
}

#define OPEN(name)                                      \
    int name(const char *path, int flags, ...) {        \
        va_list rest;                                   \
        va_start(rest, flags);                          \
        mode_t mode = va_arg(rest, mode_t);             \
        va_end(rest);                                   \
        return opened(NEXT(name), path, flags, mode);   \
    }
OPEN(open)
OPEN(open64)

static int synced(int (*next)(int), int file) {
    char link[64], path[PATH_MAX] = "", full[PATH_MAX];
    struct stat kind;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) < 0 || fstat(file, &kind)) return next(file);
    if (S_ISDIR(kind.st_mode)) strcat(path, "/.");
    if (!within(path, full)) return next(file);
    pthread_mutex_lock(&turn);
    if (S_ISDIR(kind.st_mode)) {
        full[strlen(full) - 2] = 0;
        record("@ sync-folder %s\n", full);
    } else {
        char copy[PATH_MAX], block[1 << 16];
        snprintf(copy, sizeof copy, "%s/%d", getenv("RECORD_COPIES"), copies);
        int from = NEXT(open)(link, O_RDONLY), to = NEXT(open)(copy, O_WRONLY | O_CREAT, 0666);
        if (from < 0 || to < 0) abort();
        for (ssize_t got; (got = read(from, block, sizeof block)) > 0;)
            if (write(to, block, got) != got) abort();
        close(from);
        close(to);
        record("@ sync %d %s\n", copies++, full);
    }
    pthread_mutex_unlock(&turn);
    return 0; /* nothing needs to be on the real disk */
}

int fsync(int file) { return synced(NEXT(fsync), file); }
int fdatasync(int file) { return synced(NEXT(fdatasync), file); }

#define ONE_PATH(name, word)                            \
    int name(const char *path) {                        \
        char full[PATH_MAX];                            \
        if (!within(path, full)) return NEXT(name)(path); \
        pthread_mutex_lock(&turn);                      \
        int failed = NEXT(name)(path);                  \
        if (!failed) record("@ " word " %s\n", full);   \
        pthread_mutex_unlock(&turn);                    \
        return failed;                                  \
    }
ONE_PATH(unlink, "remove")
ONE_PATH(rmdir, "remove")

int mkdir(const char *path, mode_t mode) {
    char full[PATH_MAX];
    int recorded = within(path, full), failed = NEXT(mkdir)(path, mode);
    if (recorded && !failed) record("@ folder %s\n", full);
    return failed;
}

int rename(const char *from, const char *to) {
    char old[PATH_MAX], new[PATH_MAX];
    int recorded = within(from, old) && within(to, new);
    pthread_mutex_lock(&turn);
    int failed = NEXT(rename)(from, to);
    if (recorded && !failed) record("@ rename %s\t%s\n", old, new);
    pthread_mutex_unlock(&turn);
    return failed;
}
