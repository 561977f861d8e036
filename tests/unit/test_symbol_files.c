/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names from files as compilers, strip and objcopy leave them.
 * Links: tests/unit/symbol_files.c
 *
 * The marks are labels in the code: they say where an inlined function ended up
 * without guessing at what a compiler makes of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/symbol_files.h"

static const char c_source[] =
    "#line 10 \"part.h\"\n"
    "static inline __attribute__((always_inline)) int inner(int x)\n"
    "{\n"
    "    __asm__ volatile(\"nop\\n.globl mark\\nmark: nop\"); return x * 3;\n"
    "}\n"
    "#line 20 \"sub/../part.c\"\n"
    "static inline __attribute__((always_inline)) int middle(int x)\n"
    "{\n"
    "    return inner(x) + 1;\n"
    "}\n"
    "__attribute__((noinline)) int outer(int x)\n"
    "{\n"
    "    return middle(x) + 2;\n"
    "}\n"
    "static __attribute__((noinline)) int hidden(int x)\n"
    "{\n"
    "    __asm__ volatile(\"nop\\n.globl mark_hidden\\nmark_hidden: nop\" : : "
    "\"r\"(x));\n"
    "    return x;\n"
    "}\n"
    "int main(int argc, char **argv)\n"
    "{\n"
    "    return outer(argc) + hidden(argv[0][0]);\n"
    "}\n";

static const char cxx_source[] =
    "namespace ns {\n"
    "template <class T> struct box {\n"
    "    T value;\n"
    "    __attribute__((always_inline)) T get(int x)\n"
    "    {\n"
    "        __asm__ volatile(\"nop\\n.globl mark\\nmark: nop\"); return value + x;\n"
    "    }\n"
    "};\n"
    "struct base { virtual long at(const char *) const; };\n"
    "__attribute__((noinline)) long base::at(const char *text) const\n"
    "{\n"
    "    box<short> b = {1};\n"
    "    return b.get(text[0]);\n"
    "}\n"
    "}\n"
    "int main(int, char **argv)\n"
    "{\n"
    "    return (int)ns::base().at(argv[0]);\n"
    "}\n";

static const char asm_source[] = ".text\n"
                                 ".globl sized\n.type sized,@function\n"
                                 "sized: nop\n nop\n.size sized, .-sized\n"
                                 "nop\n nop\n nop\n nop\n"
                                 ".globl lone\nlone: nop\n nop\n nop\n nop\n"
                                 ".globl _start\n_start: nop\n"
                                 ".section .note.GNU-stack,\"\",@progbits\n";

static void write_text(const char *name, const char *text)
{
    symbol_write(name, text, strlen(text));
}

static int setup(void **state)
{
    if (symbol_files_setup(state) != 0)
        return -1;
    write_text("part.c", c_source);
    write_text("part.cc", cxx_source);
    write_text("part.s", asm_source);
    return 0;
}

static void assert_frame(const struct symbol_frames *answer, uint32_t at,
                         const char *function, const char *file, uint32_t line)
{
    assert_true(at < answer->count);
    assert_string_equal(answer->frames[at].function, function);
    assert_string_equal(answer->frames[at].file, file ? symbol_path(file) : "");
    assert_int_equal(answer->frames[at].line, line);
    assert_int_equal(answer->frames[at].inlined, at + 1 < answer->count);
}

/* All three frames at `mark`, with the lines of the calls. */
static void assert_inlined(const struct symbol_frames *answer)
{
    assert_int_equal(answer->count, 3);
    assert_frame(answer, 0, "inner", "part.h", 12);
    assert_frame(answer, 1, "middle", "sub/../part.c", 22);
    assert_frame(answer, 2, "outer", "sub/../part.c", 26);
}

static void assert_nothing(const struct symbol_frames *answer)
{
    assert_int_equal(answer->count, 1);
    assert_frame(answer, 0, "", NULL, 0);
}

/* ---- compilers ---- */

static void test_inlined_frames(void **state)
{
    static const char *const compilers[] = {
        "gcc -O2 -g",
        "gcc -O2 -gdwarf-4",
        "gcc -O2 -gdwarf-5 -gz",
        "gcc -O2 -g -gsplit-dwarf",
        "gcc -O2 -g -flto",
        "gcc -O2 -g -no-pie -fno-pie",
        "gcc -O2 -g -ffunction-sections -Wl,--gc-sections",
        "gcc -O2 -g -shared -fPIC",
        "clang -O2 -g",
        "clang -O2 -gdwarf-4",
    };

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(compilers); i++) {
        struct symbol_frames answer;

        if (strncmp(compilers[i], "clang", 5) == 0 && !symbol_has_tool("clang")) {
            print_message("not tried, clang is not installed: %s\n", compilers[i]);
            continue;
        }
        print_message("%s\n", compilers[i]);
        symbol_run("%s part.c -o inlined", compilers[i]);
        symbol_ask("inlined", symbol_address("inlined", "mark"), &answer);
        assert_inlined(&answer);
    }
}

static void test_cxx_names(void **state)
{
    static const char *const compilers[] = {"g++ -O2 -g", "clang++ -O2 -g"};

    (void)state;
    for (size_t i = 0; i < NEAP_ARRAY_LEN(compilers); i++) {
        struct symbol_frames answer;

        if (i == 1 && !symbol_has_tool("clang++")) {
            print_message("not tried, clang++ is not installed\n");
            continue;
        }
        symbol_run("%s part.cc -o cxx", compilers[i]);
        symbol_ask("cxx", symbol_address("cxx", "mark"), &answer);
        assert_int_equal(answer.count, 2);
        assert_frame(&answer, 0, "ns::box<short>::get(int)", "part.cc", 6);
        assert_frame(&answer, 1, "ns::base::at(char const*) const", "part.cc", 13);

        symbol_run("strip -g cxx");
        symbol_ask("cxx", symbol_address("cxx", "mark"), &answer);
        assert_int_equal(answer.count, 1);
        assert_frame(&answer, 0, "ns::base::at(char const*) const", NULL, 0);
    }
}

/* The name that programs call, not those a library has for itself. */
static void test_library_names(void **state)
{
    static const char source[] =
        "extern __typeof__(int(int)) inside __asm__(\"__GI_inside\");\n"
        "__attribute__((noinline)) int inside(int x)\n"
        "{ __asm__ volatile(\"nop\\n.globl mark\\nmark: nop\"); return x; }\n"
        "__attribute__((noinline)) int __public(int x)\n"
        "{ __asm__ volatile(\"nop\\n.globl mark2\\nmark2: nop\"); return x + 1; }\n"
        "extern __typeof__(__public) public __attribute__((weak, "
        "alias(\"__public\")));\n"
        "__attribute__((noinline)) int versioned_1(int x)\n"
        "{ __asm__ volatile(\"nop\\n.globl mark3\\nmark3: nop\"); return x + 2; }\n"
        "__asm__(\".symver versioned_1, versioned@@V1\");\n";
    struct symbol_frames answer;

    (void)state;
    write_text("library.c", source);
    write_text("library.map",
               "V1 { global: public; versioned; mark; mark2; mark3; };\n");
    symbol_run("gcc -O2 -g -shared -fPIC -Wl,--version-script=library.map library.c "
               "-o library.so");
    symbol_ask("library.so", symbol_address("library.so", "mark"), &answer);
    assert_frame(&answer, 0, "inside", "library.c", 3);
    symbol_ask("library.so", symbol_address("library.so", "mark2"), &answer);
    assert_frame(&answer, 0, "public", "library.c", 5);
    symbol_run("cp library.so stripped.so && strip stripped.so");
    symbol_ask("stripped.so", symbol_address("library.so", "mark3"), &answer);
    assert_frame(&answer, 0, "versioned", NULL, 0);
}

/* ---- stripped files ---- */

static void test_no_wrong_name(void **state)
{
    struct symbol_frames answer;
    uint64_t mark, hidden;

    (void)state;
    symbol_run("gcc -O2 -g -rdynamic part.c -o full && strip full -o stripped");
    mark = symbol_address("full", "mark");
    hidden = symbol_address("full", "mark_hidden");
    symbol_ask("full", hidden, &answer);
    assert_int_equal(answer.count, 1);
    assert_frame(&answer, 0, "hidden", "sub/../part.c", 30);
    symbol_ask("stripped", mark, &answer);
    assert_int_equal(answer.count, 1);
    assert_frame(&answer, 0, "outer", NULL, 0);

    /* Labels are in the way: without them nobody knows this function's name. */
    symbol_run("gcc -O2 -g part.c -o full && strip full -o stripped");
    symbol_ask("stripped", symbol_address("full", "mark_hidden"), &answer);
    assert_nothing(&answer);
    symbol_ask("stripped", symbol_address("full", "mark"), &answer);
    assert_nothing(&answer);

    /* What is no code of the file has no name, whatever comes before it. */
    symbol_ask("full", 0, &answer);
    assert_nothing(&answer);
    symbol_ask("full", 1u << 30, &answer);
    assert_nothing(&answer);
    symbol_ask("full", UINT64_MAX, &answer);
    assert_nothing(&answer);
}

static void test_labels_without_size(void **state)
{
    struct symbol_frames answer;
    uint64_t sized, lone;

    (void)state;
    symbol_run("gcc -nostdlib -no-pie part.s -o labels");
    sized = symbol_address("labels", "sized");
    lone = symbol_address("labels", "lone");
    symbol_ask("labels", sized + 1, &answer);
    assert_frame(&answer, 0, "sized", NULL, 0);
    symbol_ask("labels", sized + 2, &answer);
    assert_nothing(&answer);
    symbol_ask("labels", lone + 3, &answer);
    assert_frame(&answer, 0, "lone", NULL, 0);
    symbol_ask("labels", lone + 4, &answer);
    assert_frame(&answer, 0, "_start", NULL, 0);
}

/* ---- debug files ---- */

static void split_debug(const char *options)
{
    symbol_run("rm -rf whole part debug .debug dir && mkdir -p .debug dir");
    symbol_run("gcc -O2 -g %s part.c -o whole && cp whole part", options);
    symbol_run("objcopy --only-keep-debug whole debug && strip part");
}

static void test_debug_by_build_id(void **state)
{
    struct symbol_build_id id;
    struct symbol_frames answer;
    uint64_t mark;
    char hex[3];

    (void)state;
    split_debug("-Wl,--build-id");
    mark = symbol_address("whole", "mark");
    symbol_build_id("whole", &id);
    snprintf(hex, sizeof(hex), "%02x", id.bytes[0]);
    symbol_run("h=$(readelf -n whole | sed -n 's/.*Build ID: //p'); "
               "mkdir -p dir/.build-id/%s; "
               "cp debug dir/.build-id/%s/$(echo $h | cut -c3-).debug",
               hex, hex);
    symbol_ask("part", mark, &answer);
    assert_nothing(&answer);

    setenv("NEAP_DEBUG_DIR", symbol_path("nowhere"), 1);
    symbol_ask("part", mark, &answer);
    assert_nothing(&answer);
    {
        char dirs[512];

        snprintf(dirs, sizeof(dirs), "/nowhere::%s/dir:", symbol_dir);
        setenv("NEAP_DEBUG_DIR", dirs, 1);
    }
    symbol_ask("part", mark, &answer);
    assert_inlined(&answer);

    /* Another program's debug file under this name is not believed. */
    symbol_run("gcc -O2 -g -DOTHER -Wl,--build-id=0x0102030405 part.c -o other && "
               "cp other dir/.build-id/%s/*.debug",
               hex);
    symbol_ask("part", mark, &answer);
    assert_nothing(&answer);
    unsetenv("NEAP_DEBUG_DIR");
}

static void check_debug_link(const char *options)
{
    static const char *const places[] = {"part.debug", ".debug/part.debug"};
    struct symbol_frames answer;
    uint64_t mark;

    split_debug(options);
    mark = symbol_address("whole", "mark");
    symbol_run("mv debug part.debug && objcopy --add-gnu-debuglink=part.debug part");
    for (size_t i = 0; i < NEAP_ARRAY_LEN(places); i++) {
        symbol_try("mv part.debug %s", places[i]);
        symbol_ask("part", mark, &answer);
        assert_inlined(&answer);
    }
    symbol_run("mkdir -p dir%s && mv .debug/part.debug dir%s", symbol_dir, symbol_dir);
    symbol_ask("part", mark, &answer);
    assert_nothing(&answer);
    setenv("NEAP_DEBUG_DIR", symbol_path("dir"), 1);
    symbol_ask("part", mark, &answer);
    assert_inlined(&answer);
    unsetenv("NEAP_DEBUG_DIR");
}

static void test_debug_link(void **state)
{
    (void)state;
    check_debug_link("-Wl,--build-id");
}

static void test_debug_link_checksum(void **state)
{
    struct symbol_frames answer;
    uint8_t *bytes;
    size_t length;

    (void)state;
    check_debug_link("-Wl,--build-id=none");
    symbol_run("mv dir%s/part.debug .", symbol_dir);
    length = symbol_read("part.debug", &bytes);
    bytes[length / 2] ^= 1;
    symbol_write("part.debug", bytes, length);
    free(bytes);
    symbol_ask("part", symbol_address("whole", "mark"), &answer);
    assert_nothing(&answer);
}

/* More than is unpacked in memory: through a temporary file. */
static void test_large_compressed(void **state)
{
    struct symbol_frames answer;
    uint64_t mark;

    (void)state;
    symbol_run("gcc -O2 -g part.c -o whole && head -c 30000000 /dev/zero >zeros && "
               "objcopy --add-section .debug_pad=zeros whole padded && "
               "objcopy --compress-debug-sections padded large && "
               "test $(stat -c %%s large) -lt 1000000");
    mark = symbol_address("large", "mark");
    symbol_ask("large", mark, &answer);
    assert_inlined(&answer);
    symbol_run("cp large part && objcopy --only-keep-debug part part.debug && "
               "strip part && objcopy --add-gnu-debuglink=part.debug part");
    symbol_ask("part", mark, &answer);
    assert_inlined(&answer);

    /* One that cannot be unpacked has its symbols. */
    symbol_run("at=$(readelf -SW large | awk '{ for (i = 1; i < NF; i++) "
               "if ($i == \".debug_pad\") print $(i + 3) }') && test -n \"$at\" && "
               "printf '\\377\\377' | "
               "dd of=large bs=1 seek=$((0x$at + 100)) conv=notrunc status=none");
    symbol_ask("large", mark, &answer);
    assert_int_equal(answer.count, 1);
    assert_frame(&answer, 0, "outer", NULL, 0);
}

static void test_mini_debuginfo(void **state)
{
    struct symbol_frames answer;

    (void)state;
    if (!symbol_has_tool("xz")) {
        print_message("skipped: xz is not installed\n");
        skip();
    }
    symbol_run(
        "gcc -O2 -g part.c -o whole && strip whole -o mini && "
        "echo hidden >keep && "
        "objcopy -S --remove-section .comment --keep-symbols=keep whole small && "
        "xz -f small && objcopy --add-section .gnu_debugdata=small.xz mini");
    symbol_ask("mini", symbol_address("whole", "mark_hidden"), &answer);
    assert_int_equal(answer.count, 1);
    assert_frame(&answer, 0, "hidden", NULL, 0);
    symbol_ask("mini", symbol_address("whole", "mark"), &answer);
    assert_nothing(&answer);
}

/* What two programs have in common, names above all, is in a third file. */
static void test_dwz(void **state)
{
    static const char source[] =
        "#include <netdb.h>\n"
        "#include <stdio.h>\n"
        "#include <sys/stat.h>\n"
        "static inline __attribute__((always_inline)) int inner_with_types(FILE *f)\n"
        "{ __asm__ volatile(\"nop\\n.globl mark\\nmark: nop\"); return fileno(f); }\n"
        "struct addrinfo info; struct stat status;\n"
        "int main(void) { return inner_with_types(stdin) + info.ai_flags; }\n";
    struct symbol_frames answer;

    (void)state;
    if (!symbol_has_tool("dwz")) {
        print_message("skipped: dwz is not installed\n");
        skip();
    }
    write_text("types.c", source);
    symbol_run("gcc -O2 -g types.c -o one && cp one two && dwz -m common one two && "
               "! strings -a one | grep -q inner_with_types && "
               "strings -a common | grep -q inner_with_types");
    symbol_ask("one", symbol_address("one", "mark"), &answer);
    assert_int_equal(answer.count, 2);
    assert_frame(&answer, 0, "inner_with_types", "types.c", 5);
    assert_frame(&answer, 1, "main", "types.c", 7);
}

/* ---- debuginfod ---- */

static void ask_servers(void *enabled)
{
    struct symbol_frames answer;

    if (enabled)
        setenv("NEAP_DEBUGINFOD", "1", 1);
    symbol_ask("part", symbol_address("whole", "mark"), &answer);
    if (enabled)
        assert_inlined(&answer);
    else
        assert_nothing(&answer);
}

static void test_servers_only_if_asked(void **state)
{
    char text[256];

    (void)state;
    split_debug("-Wl,--build-id");
    symbol_run("h=$(readelf -n whole | sed -n 's/.*Build ID: //p'); "
               "mkdir -p server/buildid/$h && cp debug server/buildid/$h/debuginfo");
    snprintf(text, sizeof(text), "file://%s/server", symbol_dir);
    setenv("DEBUGINFOD_URLS", text, 1);
    setenv("DEBUGINFOD_CACHE_PATH", symbol_path("cache"), 1);
    symbol_in_child(ask_servers, NULL);
    assert_int_not_equal(symbol_try("test -e cache"), 0);
    if (symbol_try("ldconfig -p | grep -q libdebuginfod.so.1 || "
                   "/sbin/ldconfig -p | grep -q libdebuginfod.so.1") == 0)
        symbol_in_child(ask_servers, text);
    else
        print_message("half skipped: libdebuginfod is not installed\n");
    unsetenv("DEBUGINFOD_URLS");
    unsetenv("DEBUGINFOD_CACHE_PATH");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inlined_frames),
        cmocka_unit_test(test_cxx_names),
        cmocka_unit_test(test_library_names),
        cmocka_unit_test(test_no_wrong_name),
        cmocka_unit_test(test_labels_without_size),
        cmocka_unit_test(test_debug_by_build_id),
        cmocka_unit_test(test_debug_link),
        cmocka_unit_test(test_debug_link_checksum),
        cmocka_unit_test(test_large_compressed),
        cmocka_unit_test(test_mini_debuginfo),
        cmocka_unit_test(test_dwz),
        cmocka_unit_test(test_servers_only_if_asked),
    };

    return cmocka_run_group_tests(tests, setup, symbol_files_teardown);
}
