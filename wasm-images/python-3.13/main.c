/* The start of Python in a sandbox, in two parts. wisp-initialize is called once, when the image is installed: it starts
   the interpreter and imports much of the standard library. The memory it leaves is what every process begins with, at
   wisp-resume: that gives the interpreter this process's arguments and environment and runs the user's program. */
#include "Python.h"

#include "boot_source.h"
#include "pycore_atexit.h"
#include "pycore_initconfig.h"
#include "pycore_interp.h"
#include "pycore_object.h"
#include "pycore_pylifecycle.h"
#include "pycore_pystate.h"
#include "pycore_sysmodule.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasi/api.h>
#include <wasi/libc-environ.h>

#define EXECUTABLE L"/usr/local/bin/python3"
#define PREFIX L"/usr/local"
#define LIBRARY L"/usr/local/lib/python3.13"
#define LIBRARY_ARCHIVE L"/usr/local/lib/python313.zip"

/* Exit codes of failures that Python itself has none for (sysexits.h: EX_SOFTWARE, EX_OSERR). */
#define EXIT_SOFTWARE 70
#define EXIT_OSERR 71

PyMODINIT_FUNC PyInit__posixsubprocess(void);
PyMODINIT_FUNC PyInit__wisp_scrypt(void);

extern void __wasm_call_ctors(void);
extern void __wasilibc_reset_preopens(void);
extern char **environ;

/* Called by patches/finalize.patch in place of taking the interpreter apart. */
int (*_Py_WispFinalize)(void) = NULL;

/* The functions of boot.py, and how many modules were imported when it was done. */
static PyObject *start_function, *finish_function;
static Py_ssize_t snapshot_modules;

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
    before.utf8_mode = 1;
    before.parse_argv = 0;
    before.use_environment = 0;
    check(Py_PreInitialize(&before));

    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.use_environment = 0;
    config.safe_path = 1;
    config.write_bytecode = 0;
    /* Whose directory that would be is not known yet. */
    config.user_site_directory = 0;
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
    PyObject *result = PyRun_String(boot_source, Py_file_input, names, names);
    start_function = PyDict_GetItemString(names, "start");
    finish_function = PyDict_GetItemString(names, "finish");
    if (result == NULL || start_function == NULL || finish_function == NULL) {
        fail("the boot script failed");
    }
    snapshot_modules = PyDict_Size(PyImport_GetModuleDict());
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
        make_one_immortal(roots.items[index], &list);
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

/* Every page a process writes to is copied for it. So that its objects share few pages, all free chunks below the top of
   the heap are taken out of use, zeroed: new objects come from contiguous memory above. 130 KB are lost to that. */
static void seal_heap(void)
{
    enum { LARGEST = 64 << 10, SMALLEST = 12, USED_STACK = 256 << 10 };
    char *top = malloc(1 << 20);
    size_t size = LARGEST;
    while (size >= SMALLEST) {
        char *chunk = malloc(size);
        if (chunk == NULL) {
            break;
        }
        if (chunk < top) {
            memset(chunk, 0, size);
            continue;
        }
        free(chunk);
        size = size > 4096 ? size / 2 : size > 512 ? size - 64 : size - 8;
    }
    free(top);
    /* The part of the stack that the initialisation used: zeros are not stored. */
    volatile char *stack = (char *)__builtin_frame_address(0) - 4096;
    for (volatile char *byte = stack - USED_STACK; byte < stack; byte++) {
        *byte = 0;
    }
}

static int finish_process(void);

__attribute__((export_name("wisp-initialize"))) void wisp_initialize(void)
{
    __wasm_call_ctors();
    if (PyImport_AppendInittab("_posixsubprocess", PyInit__posixsubprocess) < 0 ||
        PyImport_AppendInittab("_wisp_scrypt", PyInit__wisp_scrypt) < 0) {
        fail("out of memory");
    }
    initialize_interpreter();
    run_boot_script();
    make_objects_immortal();
    fflush(NULL);
    _Py_WispFinalize = finish_process;
    /* A process has directories of its own; they are asked for at the first use. */
    __wasilibc_reset_preopens();
    seal_heap();
}

/* -- In every process --------------------------------------------------------------------------------------------- */

/* Does what Py_FinalizeEx() does as far as a program can see it. The rest would only write to memory that ends. */
static int finish_process(void)
{
    static int done = 0;
    if (done) {
        return 0;
    }
    done = 1;
    PyObject *raised = PyErr_GetRaisedException();
    _PyAtExit_Call(_PyInterpreterState_GET());
    /* A dict keeps its order: what was imported since the snapshot comes last. */
    PyObject *modules = PyImport_GetModuleDict(), *imported = PyList_New(0), *name, *module;
    Py_ssize_t position = 0, count = 0;
    while (imported != NULL && PyDict_Size(modules) > snapshot_modules && PyDict_Next(modules, &position, &name, &module)) {
        if (++count > snapshot_modules && PyList_Append(imported, module) < 0) {
            break;
        }
    }
    PyObject *flushed = imported == NULL ? NULL : PyObject_CallOneArg(finish_function, imported);
    int status = flushed == Py_True ? 0 : -1;
    if (flushed == NULL) {
        PyErr_Print();
    }
    Py_XDECREF(imported);
    Py_XDECREF(flushed);
    Py_XDECREF(raised);
    return status;
}

/* Takes what the snapshot has set into a configuration that was read for this process. */
static PyStatus keep_snapshot_settings(PyConfig *config, const PyConfig *snapshot)
{
    const struct {
        wchar_t **field;
        const wchar_t *value;
    } texts[] = {
        {&config->executable, snapshot->executable},
        {&config->base_executable, snapshot->base_executable},
        {&config->home, snapshot->home},
        {&config->prefix, snapshot->prefix},
        {&config->base_prefix, snapshot->base_prefix},
        {&config->exec_prefix, snapshot->exec_prefix},
        {&config->base_exec_prefix, snapshot->base_exec_prefix},
        {&config->stdlib_dir, snapshot->stdlib_dir},
        {&config->platlibdir, snapshot->platlibdir},
        {&config->program_name, snapshot->program_name},
    };
    for (size_t index = 0; index < sizeof texts / sizeof *texts; index++) {
        PyStatus status = PyConfig_SetString(config, texts[index].field, texts[index].value);
        if (PyStatus_Exception(status)) {
            return status;
        }
    }
    config->module_search_paths_set = 0;
    config->use_hash_seed = snapshot->use_hash_seed;
    config->hash_seed = snapshot->hash_seed;
    return PyStatus_Ok();
}

/* The environment as a dict of bytes. */
static PyObject *environment(void)
{
    PyObject *variables = PyDict_New();
    for (char **entry = environ; variables != NULL && entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals == NULL) {
            continue;
        }
        PyObject *name = PyBytes_FromStringAndSize(*entry, equals - *entry), *value = PyBytes_FromString(equals + 1);
        if (name == NULL || value == NULL || PyDict_SetDefaultRef(variables, name, value, NULL) < 0) {
            Py_CLEAR(variables);
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    return variables;
}

/* Reads the command line and the environment, and has boot.py do the rest. The exit code, or -1 to go on. */
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
    if (!PyStatus_Exception(status)) {
        status = keep_snapshot_settings(&config, snapshot);
    }
    if (!PyStatus_Exception(status)) {
        status = _PyConfig_Copy(snapshot, &config);
    }
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "python: %s\n", status.err_msg == NULL ? "bad configuration" : status.err_msg);
        return EXIT_SOFTWARE;
    }
    thread->interp->long_state.max_str_digits = config.int_max_str_digits;
    if (_PySys_UpdateConfig(thread) < 0) {
        PyErr_Print();
        return EXIT_SOFTWARE;
    }

    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program);
    PyObject *result = NULL, *variables = environment();
    if (variables != NULL) {
        result = PyObject_CallFunction(start_function, "Oy#ui(iii)", variables, program, length < 0 ? 0 : length,
                                       config.pythonpath_env == NULL ? L"" : config.pythonpath_env, config.buffered_stdio,
                                       isatty(0), isatty(1), isatty(2));
    }
    Py_XDECREF(variables);
    PyConfig_Clear(&config);
    if (result == NULL) {
        PyErr_Print();
        return EXIT_SOFTWARE;
    }
    Py_DECREF(result);
    return -1;
}

static int run(int argc, char **argv)
{
    const char *directory = getenv("PWD");
    if (directory != NULL) {
        /* If it is gone, Python starts in the root: there is no place that would be more right. */
        (void)!(chdir)(directory);
    }
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

/* Without a snapshot: both parts in one process. */
int main(int argc, char **argv)
{
    wisp_initialize();
    return run(argc, argv);
}
