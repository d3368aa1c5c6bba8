/* An addon by Node-API for primed node processes: calls of the kernel that node has no function for (see decision 060).
 *
 * The functions of libc and of node that it calls are in the process already, so that one file serves glibc and musl. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MM
#define PR_SET_MM 35
#endif
#ifndef PR_SET_MM_MAP
#define PR_SET_MM_MAP 14
#endif

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
int napi_get_arraybuffer_info(napi_env, napi_value, void **, size_t *);
int napi_create_int32(napi_env, int32_t, napi_value *);

/* `struct prctl_mm_map` of prctl(2). */
struct memory_map {
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
    uint64_t arg_start, arg_end, env_start, env_end, auxv;
    uint32_t auxv_size, exe_fd;
};

/* Has /proc show that command line and environment. A kernel that has no such call (CONFIG_CHECKPOINT_RESTORE) shows what the
 * process was executed with. `words` are start_code, end_code, start_data, end_data, start_brk, start_stack, the length of the command line; and limits, for `settle`. */
static void show_as(const uint64_t *words, const void *text, size_t len) {
    char *kept = mmap(NULL, len + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (kept == MAP_FAILED) {
        return;
    }
    memcpy(kept, text, len);
    uint64_t start = (uint64_t)(uintptr_t)kept;
    struct memory_map own = {
        .start_code = words[0], .end_code = words[1], .start_data = words[2], .end_data = words[3],
        .start_brk = words[4], .brk = (uint64_t)(uintptr_t)sbrk(0), .start_stack = words[5],
        .arg_start = start, .arg_end = start + words[6], .env_start = start + words[6], .env_end = start + len,
        .exe_fd = UINT32_MAX,
    };
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &own, sizeof own, 0) != 0) {
        munmap(kept, len + 1);
    }
}

/* Lowers a limit to that value, if there is one: the hard one as well where that is said. Without rights it can only go down. */
static int lower(int resource, uint64_t value, int is_hard) {
    struct rlimit limit;
    if (value == UINT64_MAX) {
        return 0;
    }
    if (getrlimit(resource, &limit) != 0) {
        return -1;
    }
    limit.rlim_cur = limit.rlim_max < value ? limit.rlim_max : (rlim_t)value;
    if (is_hard) {
        limit.rlim_max = limit.rlim_cur;
    }
    return setrlimit(resource, &limit);
}

/* settle(words, text): after the change of the user, which takes these away. 0, or the error number.
 *
 * The process's files in /proc are its user's, as after execve(2); it dies with its init process; of what its threads may pass on to
 * programs, nothing is left to this one, which starts them. Open files, seconds of processor time and the length of files are limited by the
 * last three words, as far as these are no UINT64_MAX; the limit on files is lifted later by whoever may. */
static napi_value settle(napi_env env, napi_callback_info info) {
    size_t count = 2, words_len = 0, text_len = 0;
    napi_value arguments[2] = {NULL, NULL}, result = NULL;
    void *words = NULL, *text = NULL;
    uint32_t header[2] = {0x20080522, 0}, sets[6] = {0};
    int failed = EINVAL;
    if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) == 0
        && napi_get_arraybuffer_info(env, arguments[0], &words, &words_len) == 0
        && napi_get_arraybuffer_info(env, arguments[1], &text, &text_len) == 0
        && words_len == 10 * sizeof(uint64_t) && ((uint64_t *)words)[6] <= text_len) {
        const uint64_t *limits = (const uint64_t *)words + 7;
        failed = 0;
        if (syscall(SYS_capset, header, sets) != 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0
            || prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0) != 0 || lower(RLIMIT_NOFILE, limits[0], 1) != 0
            || lower(RLIMIT_CPU, limits[1], 1) != 0 || lower(RLIMIT_FSIZE, limits[2], 0) != 0) {
            failed = errno;
        } else {
            show_as(words, text, text_len);
        }
    }
    napi_create_int32(env, failed, &result);
    return result;
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
    napi_value function = NULL;
    (void)exports;
    napi_create_function(env, "settle", 6, settle, NULL, &function);
    return function;
}
