/* The start of Python in a sandbox, in two parts. wisp-initialize is called once, when the image is installed: it starts
   the interpreter and imports much of the standard library. The memory it leaves is what every process begins with, at
   wisp-resume: that gives the interpreter this process's arguments and environment and runs the user's program. */
#include "Python.h"

#include "boot_source.h"
#include "pycore_atexit.h"
#include "pycore_faulthandler.h"
#include "pycore_initconfig.h"
#include "pycore_interp.h"
#include "pycore_object.h"
#include "pycore_obmalloc.h"
#include "pycore_pathconfig.h"
#include "pycore_pylifecycle.h"
#include "pycore_pystate.h"
#include "pycore_sysmodule.h"
#include "pycore_tracemalloc.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>
#include <wasi/libc-environ.h>

#define PROGRAM "/usr/local/bin/python3"
#define EXECUTABLE L"" PROGRAM
#define PREFIX L"/usr/local"
#define LIBRARY L"/usr/local/lib/python3.13"
#define LIBRARY_ARCHIVE L"/usr/local/lib/python313.zip"
#define LIBRARY_DYNAMIC L"/usr/local/lib/python3.13/lib-dynload"
#define SITE_PACKAGES "/usr/local/lib/python3.13/site-packages"
#define HOME "/root"
#define USER_SITE_PACKAGES HOME "/.local/lib/python3.13/site-packages"

/* Exit codes of failures that Python itself has none for (sysexits.h: EX_SOFTWARE, EX_OSERR). */
#define EXIT_SOFTWARE 70
#define EXIT_OSERR 71

/* A program of the standard library that prints a line. */
#define REHEARSED_FILE "/usr/local/lib/python3.13/__hello__.py"

/* Bytes that are free in the snapshot, so that processes seldom have to ask for more. */
#define SPARE_HEAP (1 << 20)

PyMODINIT_FUNC PyInit__posixsubprocess(void);
PyMODINIT_FUNC PyInit__wisp_scrypt(void);

extern void __wasm_call_ctors(void);
extern void __wasilibc_reset_preopens(void);
extern char **environ;

/* Called by patches/finalize.patch in place of taking the interpreter apart. */
int (*_Py_WispFinalize)(void) = NULL;

/* The functions of boot.py, and how many modules and builtins there were when it was done. */
static PyObject *start_function, *finish_function, *forget_function;
static Py_ssize_t snapshot_modules, snapshot_builtins;

/* What lies under os.environ, posix.environ, and the names of `logging` and of a module __main__ that is new. */
static PyObject *environment, *posix_environment, *logging_names, *main_names;

/* A tuple of the standard streams as they are when they are files. Those that `sys` has in the snapshot are pipes. */
static PyObject *file_streams;

/* When the directory of installed packages was changed last. */
static struct timespec site_packages_changed;

/* Whether this process started without boot.py, and whether it has done what it does at its end. */
static int started_plainly, finished;

/* -- At installation ---------------------------------------------------------------------------------------------- */

static void fail(const char *what)
{
    if (PyErr_Occurred()) {
        PyErr_Print();
    }
    fprintf(stderr, "python: %s\n", what);
    _Exit(EXIT_SOFTWARE);
}

static void check(PyStatus status)
{
    if (PyStatus_Exception(status)) {
        fail(status.err_msg == NULL ? "cannot be initialised" : status.err_msg);
    }
}

static void initialize_interpreter(void)
{
    PyPreConfig before;
    PyPreConfig_InitPythonConfig(&before);
    before.utf8_mode = 0;
    before.parse_argv = 0;
    before.use_environment = 0;
    check(Py_PreInitialize(&before));

    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.use_environment = 0;
    config.safe_path = 1;
    config.write_bytecode = 0;
    const struct {
        wchar_t **field;
        const wchar_t *value;
    } texts[] = {
        {&config.program_name, L"python3"},
        {&config.executable, EXECUTABLE},
        {&config.base_executable, EXECUTABLE},
        {&config.home, PREFIX},
        {&config.prefix, PREFIX},
        {&config.base_prefix, PREFIX},
        {&config.exec_prefix, PREFIX},
        {&config.base_exec_prefix, PREFIX},
        {&config.stdlib_dir, LIBRARY},
    };
    for (size_t index = 0; index < sizeof texts / sizeof *texts; index++) {
        check(PyConfig_SetString(&config, texts[index].field, texts[index].value));
    }
    config.module_search_paths_set = 1;
    check(PyWideStringList_Append(&config.module_search_paths, LIBRARY_ARCHIVE));
    check(PyWideStringList_Append(&config.module_search_paths, LIBRARY));
    check(PyWideStringList_Append(&config.module_search_paths, LIBRARY_DYNAMIC));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
}

static void run_boot_script(void)
{
    PyObject *names = PyDict_New();
    PyObject *name = PyUnicode_FromString("_wisp_boot");
    if (names == NULL || name == NULL || PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) < 0 ||
        PyDict_SetItemString(names, "__name__", name) < 0) {
        fail("out of memory");
    }
    if (PyRun_String(boot_source, Py_file_input, names, names) == NULL) {
        fail("the boot script failed");
    }
    const struct {
        PyObject **object;
        const char *name;
    } objects[] = {
        {&start_function, "start"},
        {&finish_function, "finish"},
        {&forget_function, "forget_run"},
        {&environment, "environment"},
        {&posix_environment, "posix_environment"},
        {&logging_names, "logging_names"},
        {&main_names, "main_names"},
        {&file_streams, "file_streams"},
    };
    for (size_t index = 0; index < sizeof objects / sizeof *objects; index++) {
        *objects[index].object = PyDict_GetItemString(names, objects[index].name);
        if (*objects[index].object == NULL) {
            fail("the boot script lacks something");
        }
    }
    struct stat directory;
    if (stat(SITE_PACKAGES, &directory) == 0) {
        site_packages_changed = directory.st_mtim;
    }
    snapshot_modules = PyDict_Size(PyImport_GetModuleDict());
    snapshot_builtins = PyDict_Size(PyEval_GetBuiltins());
}

/* Objects that are to become immortal. */
struct worklist {
    PyObject **items;
    size_t count, capacity;
};

static void push(struct worklist *list, PyObject *object)
{
    if (list->count == list->capacity) {
        list->capacity = 2 * list->capacity + 1024;
        list->items = realloc(list->items, list->capacity * sizeof *list->items);
        if (list->items == NULL) {
            fail("out of memory");
        }
    }
    list->items[list->count++] = object;
}

static int push_root(PyObject *object, void *list)
{
    push(list, object);
    return 1;
}

static int make_one_immortal(PyObject *object, void *list)
{
    if (object != NULL && !_Py_IsImmortal(object)) {
        _Py_SetImmortal(object);
        push(list, object);
    }
    return 0;
}

/* Counting references to an object writes to its page. So that a process does not copy the pages of all objects it looks
   at, those of the snapshot are no longer counted: no process would ever free them. */
static void make_objects_immortal(void)
{
    struct worklist roots = {0}, list = {0};
    PyUnstable_GC_VisitObjects(push_root, &roots);
    for (size_t index = 0; index < roots.count; index++) {
        _Py_SetImmortal(roots.items[index]);
        push(&list, roots.items[index]);
    }
    while (list.count > 0) {
        PyObject *object = list.items[--list.count];
        traverseproc traverse = Py_TYPE(object)->tp_traverse;
        if (traverse != NULL) {
            traverse(object, make_one_immortal, &list);
        } else if (PyCode_Check(object)) {
            PyCodeObject *code = (PyCodeObject *)object;
            PyObject *parts[] = {code->co_consts,   code->co_names, code->co_exceptiontable, code->co_localsplusnames,
                                 code->co_filename, code->co_name,  code->co_qualname,       code->co_linetable,
                                 code->co_localspluskinds};
            for (size_t index = 0; index < sizeof parts / sizeof *parts; index++) {
                make_one_immortal(parts[index], &list);
            }
        }
    }
    free(roots.items);
    free(list.items);
}

/* A chunk of the heap as emmalloc, the allocator of wasi-libc, keeps it: its size stands at its bottom and at its top, and
   there with a flag if it is free. Free ones are in a list. The first chunk is followed by the end of the heap. */
struct chunk {
    size_t size;
    struct chunk *previous, *next;
};

/* Every page a process writes to is copied for it. So that what it allocates shares few pages, all free chunks are taken
   out of use, zeroed, but for the last one: its memory is contiguous and was never written to. */
static void seal_heap(void)
{
    enum { FREE = 1 };
    extern unsigned char __heap_base;
    /* Volatile, because the compiler may leave out an allocation that nobody uses. */
    void *volatile spare = malloc(SPARE_HEAP);
    free(spare);
    unsigned char *end = sbrk(0);
    struct chunk *first = (struct chunk *)&__heap_base, *last = (struct chunk *)(end - sizeof *last - sizeof(size_t));
    if (first->previous != NULL || (unsigned char *)first->next != end) {
        fail("the heap is not as expected");
    }
    for (struct chunk *chunk = first, *following; chunk != last; chunk = following) {
        following = (struct chunk *)((char *)chunk + chunk->size);
        size_t *top = (size_t *)following - 1;
        if (*top == (chunk->size | FREE) && following != last) {
            chunk->previous->next = chunk->next;
            chunk->next->previous = chunk->previous;
            memset(&chunk->previous, 0, (char *)top - (char *)&chunk->previous);
            *top = chunk->size;
        }
    }
}

/* Python's allocator takes small objects from pools, each for objects of one size. All room in the pools there are is taken
   out of use, zeroed, and so are pools below `boundary` that have no objects yet: new objects come from pools of their
   own, which lie together. */
static void seal_pools(const char *boundary)
{
    for (size_t size = SMALL_REQUEST_THRESHOLD; size > 0; size -= ALIGNMENT) {
        char *object;
        do {
            object = PyObject_Malloc(size);
            if (object == NULL) {
                fail("out of memory");
            }
            memset(object, 0, size);
        } while (object < boundary || POOL_ADDR(object)->ref.count > 1);
        PyObject_Free(object);
    }
}

/* The part of the stack that the initialisation used: zeros are not stored. */
static void clear_stack(void)
{
    enum { USED = 256 << 10 };
    volatile char *stack = (char *)__builtin_frame_address(0) - 4096;
    for (volatile char *byte = stack - USED; byte < stack; byte++) {
        *byte = 0;
    }
}

static int finish_process(void);
static int run(int argc, char **argv);

/* Runs a program as a process does, from the first line to the last, and undoes what it leaves. */
static void rehearse_run(int argc, char **argv)
{
    if (run(argc, argv) != 0 || !started_plainly) {
        fail("a rehearsal failed");
    }
    PyObject *result = PyObject_CallNoArgs(forget_function);
    if (result == NULL) {
        fail("a rehearsal is not forgotten");
    }
    Py_DECREF(result);
    finished = 0;
    if (PyDict_Size(PyImport_GetModuleDict()) != snapshot_modules) {
        fail("a rehearsal imports modules");
    }
}

/* So that the interpreter has specialised the code that every process runs, and has in its caches what that looks up. */
static void rehearse(void)
{
    enum { TIMES = 6 };
    for (int time = 0; time < TIMES; time++) {
        char *file[] = {"python3", REHEARSED_FILE, NULL}, *command[] = {"python3", "-c", "print(40 + 2)", NULL};
        rehearse_run(2, file);
        rehearse_run(3, command);
    }
}

/* Our own modules. */
static void add_modules(void)
{
    if (PyImport_AppendInittab("_posixsubprocess", PyInit__posixsubprocess) < 0 ||
        PyImport_AppendInittab("_wisp_scrypt", PyInit__wisp_scrypt) < 0) {
        fail("out of memory");
    }
}

__attribute__((export_name("wisp-initialize"))) void wisp_initialize(void)
{
    __wasm_call_ctors();
    add_modules();
    setenv("HOME", HOME, 1);
    initialize_interpreter();
    run_boot_script();
    _Py_WispFinalize = finish_process;
    make_objects_immortal();
    setenv("PWD", "/", 1);
    rehearse();
    make_objects_immortal();
    /* So that what the next runs allocate, which the processes change, lies together. */
    _PyPathConfig_ClearGlobal();
    seal_heap();
    void *volatile fresh = malloc(1);
    seal_pools(fresh);
    check(_PyPathConfig_UpdateGlobal(_PyInterpreterState_GetConfig(_PyInterpreterState_GET())));
    rehearse();
    make_objects_immortal();
    fflush(NULL);
    /* A process has directories of its own; they are asked for at the first use. */
    __wasilibc_reset_preopens();
    seal_heap();
    seal_pools(NULL);
    clear_stack();
}

/* -- In every process --------------------------------------------------------------------------------------------- */

/* Does what Py_FinalizeEx() does as far as a program can see it. The rest would only write to memory that ends. */
static int finish_process(void)
{
    if (finished) {
        return 0;
    }
    finished = 1;
    PyObject *raised = PyErr_GetRaisedException();
    _PyAtExit_Call(_PyInterpreterState_GET());
    PyObject *flushed = PyObject_CallFunction(finish_function, "nn", snapshot_modules, snapshot_builtins);
    int status = flushed == Py_True ? 0 : -1;
    if (flushed == NULL) {
        PyErr_Print();
    }
    Py_XDECREF(flushed);
    Py_XDECREF(raised);
    return status;
}

/* Takes what the snapshot has set into a configuration that was read for this process. */
static void keep_snapshot_settings(PyConfig *config, const PyConfig *snapshot)
{
    config->executable = snapshot->executable;
    config->base_executable = snapshot->base_executable;
    config->home = snapshot->home;
    config->prefix = snapshot->prefix;
    config->base_prefix = snapshot->base_prefix;
    config->exec_prefix = snapshot->exec_prefix;
    config->base_exec_prefix = snapshot->base_exec_prefix;
    config->stdlib_dir = snapshot->stdlib_dir;
    config->platlibdir = snapshot->platlibdir;
    config->program_name = snapshot->program_name;
    config->filesystem_encoding = snapshot->filesystem_encoding;
    config->filesystem_errors = snapshot->filesystem_errors;
    config->module_search_paths_set = 0;
    config->use_hash_seed = snapshot->use_hash_seed;
    config->hash_seed = snapshot->hash_seed;
}

/* Whether what sys.flags and its neighbours tell is the same for both. */
static int same_settings(const PyConfig *one, const PyConfig *other)
{
    const PyConfig *both[] = {one, other};
    for (int index = 0; index < 2; index++) {
        if (both[index]->warnoptions.length > 0 || both[index]->xoptions.length > 0 || both[index]->pycache_prefix != NULL) {
            return 0;
        }
    }
#define SAME(field) (one->field == other->field)
    return SAME(isolated) && SAME(use_environment) && SAME(dev_mode) && SAME(parser_debug) && SAME(site_import) &&
           SAME(bytes_warning) && SAME(warn_default_encoding) && SAME(inspect) && SAME(interactive) &&
           SAME(optimization_level) && SAME(write_bytecode) && SAME(verbose) && SAME(quiet) &&
           SAME(user_site_directory) && SAME(safe_path) && SAME(int_max_str_digits);
#undef SAME
}

/* Gives `sys` what the command line and the environment say. 0, or -1 with an exception. */
static int update_sys(PyThreadState *thread, const PyConfig *config, int all)
{
    if (all) {
        return _PySys_UpdateConfig(thread);
    }
    PyObject *argv = _PyWideStringList_AsList(&config->argv), *orig_argv = _PyWideStringList_AsList(&config->orig_argv);
    int status = argv == NULL || orig_argv == NULL || PySys_SetObject("argv", argv) < 0 ||
                 PySys_SetObject("orig_argv", orig_argv) < 0;
    Py_XDECREF(argv);
    Py_XDECREF(orig_argv);
    return -status;
}

/* Fills the dict under os.environ, and posix.environ, which it was made from. 0, or -1 with an exception. */
static int update_environment(void)
{
    PyDict_Clear(environment);
    PyDict_Clear(posix_environment);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL) {
            continue;
        }
        PyObject *name = PyBytes_FromStringAndSize(*entry, equals - *entry), *value = PyBytes_FromString(equals + 1);
        int failed = name == NULL || value == NULL || PyDict_SetDefaultRef(environment, name, value, NULL) < 0;
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (failed) {
            return -1;
        }
    }
    return PyDict_Update(posix_environment, environment);
}

/* Tells `logging` when this process started. 0, or -1 with an exception. */
static int update_start_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    PyObject *nanoseconds = PyLong_FromLongLong(now.tv_sec * 1000000000LL + now.tv_nsec);
    int status = nanoseconds == NULL ? -1 : PyDict_SetItemString(logging_names, "_startTime", nanoseconds);
    Py_XDECREF(nanoseconds);
    return status;
}

/* The letter by which boot.py knows what a standard stream is. */
static char stream_kind(int fd)
{
    if (lseek(fd, 0, SEEK_CUR) >= 0) {
        return 'f';
    }
    return errno == EBADF ? '-' : isatty(fd) ? 't' : 'p';
}

/* Takes the streams that are made for files for those standard streams that are. 0, or -1 with an exception. */
static int update_streams(const char *kinds)
{
    static const char *const names[][2] = {{"stdin", "__stdin__"}, {"stdout", "__stdout__"}, {"stderr", "__stderr__"}};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        PyObject *stream = PyTuple_GET_ITEM(file_streams, fd);
        if (kinds[fd] == 'f' &&
            (PySys_SetObject(names[fd][0], stream) < 0 || PySys_SetObject(names[fd][1], stream) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* Makes the module __main__. That of the snapshot could not be freed at the end, and with it what a program has in it.
   0, or -1 with an exception. */
static int make_main_module(void)
{
    PyObject *module = PyImport_AddModuleRef("__main__"), *annotations = PyDict_New();
    PyObject *names = module == NULL ? NULL : PyModule_GetDict(module);
    int failed = names == NULL || annotations == NULL || PyDict_Update(names, main_names) < 0 ||
                 PyDict_SetItemString(names, "__annotations__", annotations) < 0;
    Py_XDECREF(module);
    Py_XDECREF(annotations);
    return -failed;
}

/* Whether this is the installed Python, with what was installed with it and for everybody, and writes as it does by
   default. Then boot.py has nothing to do. */
static int is_plain(const PyConfig *config, const char *program, const char *streams)
{
    static const char *const programs[] = {PROGRAM, "/usr/local/bin/python", "/usr/local/bin/python3.13"};
    int known = 0;
    for (size_t index = 0; index < sizeof programs / sizeof *programs; index++) {
        known = known || strcmp(program, programs[index]) == 0;
    }
    const char *home = getenv("HOME");
    struct stat found;
    if (home == NULL || strcmp(home, HOME) != 0 || getenv("PYTHONUSERBASE") != NULL || !config->user_site_directory ||
        !config->site_import || stat(USER_SITE_PACKAGES, &found) == 0) {
        return 0;
    }
    int unchanged = stat(SITE_PACKAGES, &found) == 0 && found.st_mtim.tv_sec == site_packages_changed.tv_sec &&
                    found.st_mtim.tv_nsec == site_packages_changed.tv_nsec;
    int no_options = config->pythonpath_env == NULL && config->warnoptions.length == 0 && config->buffered_stdio &&
                     getenv("PYTHONIOENCODING") == NULL;
    int files = strchr(streams, '-') == NULL && strchr(streams, 't') == NULL;
    return known && unchanged && no_options && files;
}

/* Reads the command line and the environment, and gives this process what differs from the snapshot. The exit code, or
   -1 to go on. */
static int configure(int argc, char **argv)
{
    PyThreadState *thread = _PyThreadState_GET();
    PyConfig *snapshot = (PyConfig *)_PyInterpreterState_GetConfig(thread->interp);
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.write_bytecode = 0;
    PyStatus status = PyConfig_SetBytesArgv(&config, argc, argv);
    if (!PyStatus_Exception(status)) {
        status = PyConfig_Read(&config);
    }
    if (PyStatus_IsExit(status)) {
        return status.exitcode;
    }
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "python: %s\n", status.err_msg == NULL ? "bad configuration" : status.err_msg);
        return EXIT_SOFTWARE;
    }
    keep_snapshot_settings(&config, snapshot);
    int all = !same_settings(&config, snapshot);
    /* Nothing of either is freed: the texts of the snapshot are needed still, or lie in pages that would be copied. */
    *snapshot = config;
    thread->interp->long_state.max_str_digits = config.int_max_str_digits;
    /* Looked at for PYTHONBREAKPOINT and PYTHONINSPECT. */
    _Py_COMP_DIAG_PUSH
    _Py_COMP_DIAG_IGNORE_DEPR_DECLS
    Py_IgnoreEnvironmentFlag = !config.use_environment;
    _Py_COMP_DIAG_POP
    if ((config.faulthandler && PyStatus_Exception(_PyFaulthandler_Init(1))) ||
        (config.tracemalloc > 0 && _PyTraceMalloc_Start(config.tracemalloc) < 0)) {
        PyErr_Print();
        return EXIT_SOFTWARE;
    }

    char program[PATH_MAX] = PROGRAM;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length >= 0) {
        program[length] = '\0';
    }
    char streams[] = {stream_kind(STDIN_FILENO), stream_kind(STDOUT_FILENO), stream_kind(STDERR_FILENO), '\0'};
    if (update_sys(thread, &config, all) < 0 || update_environment() < 0 || update_start_time() < 0 ||
        update_streams(streams) < 0 || make_main_module() < 0) {
        PyErr_Print();
        return EXIT_SOFTWARE;
    }
    started_plainly = is_plain(&config, program, streams);
    if (started_plainly) {
        return -1;
    }
    PyObject *result = PyObject_CallFunction(start_function, "yuis", program,
                                             config.pythonpath_env == NULL ? L"" : config.pythonpath_env,
                                             config.buffered_stdio, streams);
    if (result == NULL) {
        PyErr_Print();
        return EXIT_SOFTWARE;
    }
    Py_DECREF(result);
    return -1;
}

/* Goes where the process was started. */
static void enter_directory(void)
{
    const char *directory = getenv("PWD");
    if (directory != NULL) {
        /* If it is gone, Python starts in the root: there is no place that would be more right. */
        (void)!(chdir)(directory);
    }
}

static int run(int argc, char **argv)
{
    enter_directory();
    wisp_libc_restore_signals();
    int code = configure(argc, argv);
    return code >= 0 ? code : Py_RunMain();
}

__attribute__((export_name("wisp-resume"))) void wisp_resume(void)
{
    size_t count, bytes;
    __wasilibc_initialize_environ();
    if (__wasi_args_sizes_get(&count, &bytes) != 0) {
        _Exit(EXIT_OSERR);
    }
    char *texts = malloc(bytes + 1), **argv = calloc(count + 1, sizeof *argv);
    if (texts == NULL || argv == NULL || __wasi_args_get((uint8_t **)argv, (uint8_t *)texts) != 0) {
        _Exit(EXIT_OSERR);
    }
    exit(run((int)count, argv));
}

/* Without a snapshot: CPython's own start, which a process that comes from one is to be like. */
int main(int argc, char **argv)
{
    add_modules();
    enter_directory();
    wisp_libc_restore_signals();
    return Py_BytesMain(argc, argv);
}
