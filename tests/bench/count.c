/* A plugin for qemu's user mode: how many instructions of the guest lie between its system calls of one kind.
 *
 *     qemu-aarch64 -plugin count.so,out=FILE,clock=113,write=64 lanrage bench
 *
 * writes to FILE, for each look at the clock, how many instructions there were since the one before, and
 * "phase" for each line that the guest begins on its standard error. `.ci/cross count` reads that. qemu's header
 * for plugins is in no package of Debian's, so the few things of it that are needed are declared here. */

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*callback)(plugin_id, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation, void *at, uint64_t number);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id,
                                          void (*callback)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

/* The version of the interface, and its only operation on a number: to add. */
int qemu_plugin_version = 1;
enum { ADD = 0 };

static uint64_t count, last;
static int64_t clock_call = -1, write_call = -1;
static FILE *file;

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, &count, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t first, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == clock_call) {
        fprintf(file, "%" PRIu64 "\n", count - last);
        last = count;
    } else if (number == write_call && first == 2) {
        fputs("phase\n", file);
    }
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0)
            file = fopen(argv[i] + 4, "w");
        else if (strncmp(argv[i], "clock=", 6) == 0)
            clock_call = atoll(argv[i] + 6);
        else if (strncmp(argv[i], "write=", 6) == 0)
            write_call = atoll(argv[i] + 6);
    }
    if (file == NULL)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
