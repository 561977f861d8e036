/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on a command: real programs, programs made up byte by byte, and files
 * that lie about themselves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/elf.h"
#include "daemon/program.h"
#include "schema/attr.h"
#include "schema/base/cleanup.h"

#define IMAGE_BYTES 4096

static char directory[] = "/tmp/neap-test-program-XXXXXX";

/* A native program with one PT_LOAD, and room for what a test adds. */
struct image {
    Elf64_Ehdr ehdr;
    Elf64_Phdr phdr[4];
    Elf64_Shdr shdr[3];
    Elf64_Dyn dyn[4];
    Elf64_Nhdr note;
    char note_name[4];
    char note_desc[4];
    Elf64_Sym symbols[2];
    char names[32];
};

static void make_image(struct image *image)
{
    struct neap_elf native;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    neap_elf_inspect(self, &native);
    close(self);
    memset(image, 0, sizeof(*image));
    memcpy(image->ehdr.e_ident, ELFMAG, SELFMAG);
    image->ehdr.e_ident[EI_CLASS] = ELFCLASS64;
    image->ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
    image->ehdr.e_type = ET_EXEC;
    image->ehdr.e_machine = (Elf64_Half)native.machine;
    image->ehdr.e_phoff = offsetof(struct image, phdr);
    image->ehdr.e_phentsize = sizeof(Elf64_Phdr);
    image->ehdr.e_phnum = 1;
    image->phdr[0].p_type = PT_LOAD;
}

static void add_segment(struct image *image, uint32_t type, size_t offset, size_t size)
{
    Elf64_Phdr *phdr = &image->phdr[image->ehdr.e_phnum++];

    phdr->p_type = type;
    phdr->p_offset = offset;
    phdr->p_filesz = size;
}

static void inspect_bytes(const void *bytes, size_t length, struct neap_elf *ret)
{
    int fd = memfd_create("image", MFD_CLOEXEC);

    assert_true(write(fd, bytes, length) == (ssize_t)length);
    neap_elf_inspect(fd, ret);
    close(fd);
}

static void inspect_image(const struct image *image, struct neap_elf *ret)
{
    inspect_bytes(image, sizeof(*image), ret);
}

/* ---- elf ---- */

static void test_self(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct neap_elf elf;

    (void)state;
    neap_elf_inspect(fd, &elf);
    close(fd);
    assert_true(elf.is_elf && elf.interpreted && neap_elf_is_native(&elf));
    assert_false(elf.malformed || elf.go);
}

static void test_static(void **state)
{
    struct neap_elf elf;
    struct image image;

    (void)state;
    make_image(&image);
    inspect_image(&image, &elf);
    assert_true(elf.is_elf && !elf.malformed && neap_elf_is_native(&elf));
    assert_false(elf.interpreted || elf.named || elf.go || elf.own_malloc);
    add_segment(&image, PT_INTERP, 0, 0);
    inspect_image(&image, &elf);
    assert_true(elf.interpreted);
}

static void test_named(void **state)
{
    struct neap_elf elf;
    struct image image;

    (void)state;
    make_image(&image);
    add_segment(&image, PT_DYNAMIC, offsetof(struct image, dyn), sizeof(image.dyn));
    inspect_image(&image, &elf);
    assert_false(elf.named);
    image.dyn[0].d_tag = DT_SONAME;
    inspect_image(&image, &elf);
    assert_true(elf.named);
}

static void test_go(void **state)
{
    struct neap_elf elf;
    struct image image;

    (void)state;
    make_image(&image);
    add_segment(&image, PT_NOTE, offsetof(struct image, note),
                sizeof(Elf64_Nhdr) + sizeof(image.note_name) + sizeof(image.note_desc));
    image.note.n_namesz = 4;
    image.note.n_descsz = 4;
    memcpy(image.note_name, "GNU", 4);
    inspect_image(&image, &elf);
    assert_false(elf.go);
    memcpy(image.note_name, "Go\0", 4);
    inspect_image(&image, &elf);
    assert_true(elf.go);
    image.note.n_descsz = 0xfffffff0;
    inspect_image(&image, &elf);
    assert_false(elf.go);
}

static void test_own_malloc(void **state)
{
    struct neap_elf elf;
    struct image image;

    (void)state;
    make_image(&image);
    image.ehdr.e_shoff = offsetof(struct image, shdr);
    image.ehdr.e_shentsize = sizeof(Elf64_Shdr);
    image.ehdr.e_shnum = 2;
    image.shdr[0].sh_type = SHT_DYNSYM;
    image.shdr[0].sh_offset = offsetof(struct image, symbols);
    image.shdr[0].sh_size = sizeof(image.symbols);
    image.shdr[0].sh_link = 1;
    image.shdr[1].sh_offset = offsetof(struct image, names);
    image.shdr[1].sh_size = sizeof(image.names);
    memcpy(image.names + 1, "malloc", 6);
    image.symbols[1].st_name = 1;
    inspect_image(&image, &elf);
    assert_false(elf.own_malloc); /* used, not defined */
    image.symbols[1].st_shndx = 1;
    inspect_image(&image, &elf);
    assert_true(elf.own_malloc);
    image.symbols[1].st_name = 2;
    inspect_image(&image, &elf);
    assert_false(elf.own_malloc);
    image.symbols[1].st_name = UINT32_MAX;
    image.shdr[0].sh_link = 77;
    inspect_image(&image, &elf);
    assert_false(elf.own_malloc);
}

/* A program that asks for one library; image.names + 1 is its name. */
static void make_needing(struct image *image, const char *library)
{
    make_image(image);
    image->phdr[0].p_vaddr = 0x400000;
    image->phdr[0].p_filesz = sizeof(*image);
    add_segment(image, PT_DYNAMIC, offsetof(struct image, dyn), sizeof(image->dyn));
    image->dyn[0].d_tag = DT_NEEDED;
    image->dyn[0].d_un.d_val = 1;
    image->dyn[1].d_tag = DT_STRTAB;
    image->dyn[1].d_un.d_ptr = 0x400000 + offsetof(struct image, names);
    snprintf(image->names + 1, sizeof(image->names) - 1, "%s", library);
}

static void test_sanitizers(void **state)
{
    static const char *const libraries[][2] = {
        {"libasan.so.8", "address"},
        {"libtsan.so", "thread"},
        {"liblsan.so.0", "leak"},
        {"libhwasan.so.0", "hwaddress"},
        {"libclang_rt.asan-x86_64.so", "address"},
        {"libasan.software", NULL},
        {"libc.so.6", NULL},
        {"libubsan.so.1", NULL},
        {"", NULL},
    };
    struct neap_elf elf;
    struct image image;

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(libraries); i++) {
        make_needing(&image, libraries[i][0]);
        inspect_image(&image, &elf);
        if (libraries[i][1])
            assert_string_equal(elf.sanitizer, libraries[i][1]);
        else
            assert_null(elf.sanitizer);
    }
    make_needing(&image, "libasan.so.8");
    image.dyn[0].d_un.d_val = UINT64_MAX - 7;
    inspect_image(&image, &elf);
    assert_null(elf.sanitizer);
    make_needing(&image, "libasan.so.8");
    image.dyn[1].d_un.d_ptr = 0x500000;
    inspect_image(&image, &elf);
    assert_null(elf.sanitizer);
}

/* Cut anywhere, and with any byte turned over: an answer, whatever it is. */
static void test_evil(void **state)
{
    struct neap_elf elf;
    struct image image;
    unsigned refused = 0;

    (void)state;
    make_image(&image);
    add_segment(&image, PT_DYNAMIC, offsetof(struct image, dyn), sizeof(image.dyn));
    add_segment(&image, PT_NOTE, offsetof(struct image, note), 20);
    image.ehdr.e_shoff = offsetof(struct image, shdr);
    image.ehdr.e_shentsize = sizeof(Elf64_Shdr);
    image.ehdr.e_shnum = 3;
    for (size_t i = 0; i < sizeof(image); i++) {
        inspect_bytes(&image, i, &elf);
        refused += !elf.is_elf || elf.malformed;
    }
    assert_in_range(refused, sizeof(Elf64_Ehdr), sizeof(image));
    for (size_t i = 0; i < sizeof(image); i++) {
        ((unsigned char *)&image)[i] ^= 0xff;
        inspect_image(&image, &elf);
        assert_true(elf.is_elf == (i >= SELFMAG));
        ((unsigned char *)&image)[i] ^= 0xff;
    }
}

/* ---- files ---- */

static char *put_file(const char *name, const void *bytes, size_t length, mode_t mode)
{
    static char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_true(write(fd, bytes, length) == (ssize_t)length);
    fchmod(fd, mode);
    close(fd);
    return path;
}

static void expect_error(const char *path, int wanted, const char *word)
{
    neap_auto_free char *note = NULL;
    int status = -1;
    struct neap_error *error = neap_program_inspect(path, &note, &status);

    assert_non_null(error);
    assert_int_equal(status, wanted);
    assert_null(strchr(error->message, '\n'));
    assert_non_null(strstr(error->message, word));
    assert_non_null(strstr(error->message, path));
    neap_error_destroy(error);
    assert_null(note);
}

static void expect_refused(const char *path, const char *word)
{
    expect_error(path, NEAP_STATUS_FAILED, word);
}

static void expect_allowed(const char *path, const char *word)
{
    neap_auto_free char *note = NULL;
    int status = -1;

    assert_null(neap_program_inspect(path, &note, &status));
    if (word)
        assert_non_null(strstr(note ? note : "", word));
    else
        assert_null(note);
}

static void test_verdicts(void **state)
{
    struct image image;
    char *path;

    (void)state;
    expect_allowed("/bin/sh", NULL);
    expect_allowed("/nowhere/at/all", NULL); /* the exec says what is wrong */
    make_image(&image);
    expect_refused(put_file("static", &image, sizeof(image), 0700),
                   "statically linked");
    memcpy(image.note_name, "Go\0", 4);
    image.note.n_namesz = image.note.n_descsz = 4;
    add_segment(&image, PT_NOTE, offsetof(struct image, note), 20);
    expect_refused(put_file("go", &image, sizeof(image), 0700), "Go");
    add_segment(&image, PT_INTERP, 0, 0);
    path = put_file("godyn", &image, sizeof(image), 0700);
    expect_allowed(path, "Go's own heap is not malloc");
    image.ehdr.e_machine = EM_S390;
    expect_refused(put_file("s390", &image, sizeof(image), 0700), "another kind");
    image.ehdr.e_ident[EI_CLASS] = ELFCLASS32;
    image.ehdr.e_machine = EM_386;
    expect_refused(put_file("i386", &image, sizeof(image), 0700), "32-bit");
    expect_allowed(put_file("text", "echo hello\n", 11, 0700), NULL);
    expect_allowed(put_file("empty", "", 0, 0700), NULL);
}

static void test_missing_interpreter(void **state)
{
    struct image image;
    char line[300];
    int length;

    (void)state;
    expect_error(put_file("dos", "#!/bin/sh\r\nexit 0\r\n", 20, 0700),
                 NEAP_STATUS_NOT_FOUND, "'/bin/sh\\r'");
    expect_error(put_file("gone", "#!/nowhere/sh -x\n", 17, 0700),
                 NEAP_STATUS_NOT_FOUND, "'/nowhere/sh'");
    expect_error(put_file("folder", "#! /tmp\n", 8, 0700), NEAP_STATUS_CANNOT,
                 "'/tmp'");
    make_image(&image);
    memcpy(image.names, "/nowhere/ld.so", 15);
    add_segment(&image, PT_INTERP, offsetof(struct image, names), 15);
    expect_error(put_file("noloader", &image, sizeof(image), 0700),
                 NEAP_STATUS_NOT_FOUND, "'/nowhere/ld.so'");
    /* Without its NUL it is no path: the kernel says what it thinks of that. */
    image.phdr[1].p_filesz = 14;
    expect_allowed(put_file("noloader", &image, sizeof(image), 0700), NULL);
    /* A path that goes on beyond what the kernel reads is not looked for. */
    length = snprintf(line, sizeof(line), "#!/%0280d\n", 0);
    expect_allowed(put_file("long", line, (size_t)length, 0700), NULL);
}

static void test_setuid(void **state)
{
    struct image image;
    char *path;

    (void)state;
    make_image(&image);
    add_segment(&image, PT_INTERP, 0, 0);
    path = put_file("setuid", &image, sizeof(image), 0700);
    if (geteuid() != 0 || chown(path, 12345, getegid()))
        skip(); /* only root can make a file somebody else's */
    chmod(path, 04755);
    expect_allowed(path, "unhooked");
}

static void test_scripts(void **state)
{
    struct image image;
    char *path;
    char line[300];
    int length;

    (void)state;
    make_image(&image);
    path = put_file("interpreter", &image, sizeof(image), 0700);
    length = snprintf(line, sizeof(line), "#! %s -x\necho\n", path);
    path = put_file("script", line, (size_t)length, 0700);
    expect_allowed(put_file("sh", "#!/bin/sh\n", 10, 0700), NULL);
    expect_allowed(put_file("blank", "#! \n", 4, 0700), NULL);
    snprintf(line, sizeof(line), "%s/script", directory);
    {
        neap_auto_free char *note = NULL;
        int status;
        struct neap_error *error = neap_program_inspect(line, &note, &status);

        assert_non_null(error);
        assert_non_null(strstr(error->message, "interpreter is statically linked"));
        neap_error_destroy(error);
    }
    /* One that is its own interpreter comes to an end. */
    length = snprintf(line, sizeof(line), "#!%s/loop\n", directory);
    expect_allowed(put_file("loop", line, (size_t)length, 0700), NULL);
}

/* ---- PATH ---- */

static void expect_found(const char *name, const char *path)
{
    neap_auto_free char *found = NULL;
    int status = -1;

    assert_null(neap_program_find(name, &found, &status));
    assert_string_equal(found, path);
}

static void expect_status(const char *name, int wanted)
{
    char *found = NULL;
    int status = -1;
    struct neap_error *error = neap_program_find(name, &found, &status);

    assert_non_null(error);
    assert_int_equal(status, wanted);
    assert_non_null(strstr(error->message, name));
    neap_error_destroy(error);
}

static void test_find(void **state)
{
    char path[600], file[300];

    (void)state;
    put_file("tool", "x", 1, 0700);
    put_file("plain", "x", 1, 0600);
    snprintf(path, sizeof(path), "/nowhere:%s:/bin", directory);
    setenv("PATH", path, 1);
    snprintf(file, sizeof(file), "%s/tool", directory);
    expect_found("tool", file);
    expect_found(file, file);
    expect_found("ls", "/bin/ls");
    expect_status("nothing-of-this-name", NEAP_STATUS_NOT_FOUND);
    expect_status("", NEAP_STATUS_NOT_FOUND);
    expect_status("/nowhere/tool", NEAP_STATUS_NOT_FOUND);
    expect_status("plain", NEAP_STATUS_CANNOT);
    expect_status("/bin", NEAP_STATUS_CANNOT);
    expect_status("/bin/sh/x", NEAP_STATUS_CANNOT);
    /* An empty element is the current directory. */
    assert_int_equal(chdir(directory), 0);
    setenv("PATH", "", 1);
    expect_found("tool", "./tool");
    unsetenv("PATH");
    expect_found("ls", "/bin/ls");
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "/bin/rm -rf '%s'", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self),       cmocka_unit_test(test_static),
        cmocka_unit_test(test_named),      cmocka_unit_test(test_go),
        cmocka_unit_test(test_own_malloc), cmocka_unit_test(test_evil),
        cmocka_unit_test(test_verdicts),   cmocka_unit_test(test_setuid),
        cmocka_unit_test(test_scripts),    cmocka_unit_test(test_find),
        cmocka_unit_test(test_sanitizers), cmocka_unit_test(test_missing_interpreter),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
