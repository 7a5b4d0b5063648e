/* _posixsubprocess, which the module subprocess is built on: fork_exec() without a fork. */
#include "Python.h"

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What fork_exec() returns when no program could be started. No process has this number. */
#define NO_CHILD INT_MAX
#define STANDARD_STREAMS 3

/* The arguments of fork_exec() that matter here. */
struct arguments {
    PyObject *argv, *executables, *kept, *directory, *environment, *preexec;
    /* In the parent: what the child gets as 0, 1 and 2, or -1 for the parent's own. */
    int streams[STANDARD_STREAMS];
    int error_pipe;
    int restore_signals, new_session, umask;
    pid_t group;
};

static void free_strings(char **strings)
{
    for (char **string = strings; string != NULL && *string != NULL; string++) {
        PyMem_Free(*string);
    }
    PyMem_Free(strings);
}

/* The items of a sequence as C strings, ended by NULL; NULL with an exception if it is none of paths. */
static char **strings_of(PyObject *items)
{
    PyObject *list = PySequence_Fast(items, "argv must be a tuple");
    if (list == NULL) {
        return NULL;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list);
    char **strings = PyMem_Calloc((size_t)count + 1, sizeof *strings);
    if (strings == NULL) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t index = 0; strings != NULL && index < count; index++) {
        PyObject *bytes = NULL;
        if (PyUnicode_FSConverter(PySequence_Fast_GET_ITEM(list, index), &bytes)) {
            size_t size = (size_t)PyBytes_GET_SIZE(bytes) + 1;
            strings[index] = PyMem_Malloc(size);
            if (strings[index] != NULL) {
                memcpy(strings[index], PyBytes_AS_STRING(bytes), size);
            } else {
                PyErr_NoMemory();
            }
            Py_DECREF(bytes);
        }
        if (strings[index] == NULL) {
            free_strings(strings);
            strings = NULL;
        }
    }
    Py_DECREF(list);
    return strings;
}

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* The descriptors of the child; their number, or -1 with an exception. */
static Py_ssize_t descriptors_of(const struct arguments *arguments, struct wisp_descriptor **out)
{
    Py_ssize_t kept = PyTuple_GET_SIZE(arguments->kept), count = 0;
    struct wisp_descriptor *list = PyMem_Calloc((size_t)kept + STANDARD_STREAMS, sizeof *list);
    *out = list;
    if (list == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int number = 0; number < STANDARD_STREAMS; number++) {
        int own = arguments->streams[number] >= 0 ? arguments->streams[number] : number;
        if (is_open(own)) {
            list[count++] = (struct wisp_descriptor){.child = (uint32_t)number, .own = (uint32_t)own};
        }
    }
    for (Py_ssize_t index = 0; index < kept; index++) {
        int fd = PyLong_AsInt(PyTuple_GET_ITEM(arguments->kept, index));
        if (fd < 0) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "bad value(s) in fds_to_keep");
            }
            return -1;
        }
        if (fd >= STANDARD_STREAMS && fd != arguments->error_pipe && is_open(fd)) {
            list[count++] = (struct wisp_descriptor){.child = (uint32_t)fd, .own = (uint32_t)fd};
        }
    }
    return count;
}

/* Tells subprocess.Popen through its pipe why there is no child, as a forked child would. */
static void report_failure(int pipe, int error, const char *where)
{
    char message[64];
    int length = snprintf(message, sizeof message, "OSError:%x:%s", (unsigned)error, where);
    /* A pipe that nobody reads is Popen's affair. */
    (void)!write(pipe, message, (size_t)length);
}

static pid_t spawn_first(struct wisp_command *command, char *const *executables)
{
    int failure = 0;
    for (; *executables != NULL; executables++) {
        command->path = *executables;
        pid_t pid = wisp_libc_spawn(command);
        if (pid >= 0) {
            return pid;
        }
        /* As after execve(): the first failure that says more than that nothing is there. */
        if (failure == 0 && errno != ENOENT && errno != ENOTDIR) {
            failure = errno;
        }
    }
    if (failure != 0) {
        errno = failure;
    }
    return -1;
}

static pid_t start(const struct arguments *arguments, struct wisp_command *command, char *const *executables)
{
    struct stat found;
    if (command->directory != NULL && (stat(command->directory, &found) != 0 || !S_ISDIR(found.st_mode))) {
        report_failure(arguments->error_pipe, errno == 0 ? ENOTDIR : errno, "noexec:chdir");
        return NO_CHILD;
    }
    /* The child takes over what is set in this process while it starts. */
    mode_t old_umask = arguments->umask >= 0 ? umask((mode_t)arguments->umask) : 0;
    void (*on_broken_pipe)(int) = arguments->restore_signals ? signal(SIGPIPE, SIG_DFL) : SIG_ERR;
    pid_t pid = spawn_first(command, executables);
    int failure = errno;
    if (on_broken_pipe != SIG_ERR) {
        signal(SIGPIPE, on_broken_pipe);
    }
    if (arguments->umask >= 0) {
        umask(old_umask);
    }
    if (pid < 0) {
        report_failure(arguments->error_pipe, failure, "");
        return NO_CHILD;
    }
    if (arguments->group > 0) {
        setpgid(pid, arguments->group);
    }
    return pid;
}

static PyObject *fork_exec(PyObject *module, PyObject *args)
{
    struct arguments arguments;
    int close_others, unused, allow_vfork;
    PyObject *gid, *groups, *uid;
    if (!PyArg_ParseTuple(args, "OOpO!OOiiiiiiiippiOOOiOp:fork_exec", &arguments.argv, &arguments.executables, &close_others,
                          &PyTuple_Type, &arguments.kept, &arguments.directory, &arguments.environment,
                          &arguments.streams[0], &unused, &unused, &arguments.streams[1], &unused, &arguments.streams[2],
                          &unused, &arguments.error_pipe, &arguments.restore_signals, &arguments.new_session,
                          &arguments.group, &gid, &groups, &uid, &arguments.umask, &arguments.preexec, &allow_vfork)) {
        return NULL;
    }
    if (arguments.preexec != Py_None) {
        PyErr_SetString(PyExc_RuntimeError, "preexec_fn needs fork(), which there is not");
        return NULL;
    }
    if (gid != Py_None || groups != Py_None || uid != Py_None) {
        PyErr_SetString(PyExc_RuntimeError, "there is one user only");
        return NULL;
    }
    PyObject *result = NULL, *directory = NULL;
    struct wisp_descriptor *descriptors = NULL;
    char **environment = NULL;
    char **executables = strings_of(arguments.executables);
    char **argv = executables == NULL ? NULL : strings_of(arguments.argv);
    if (argv == NULL) {
        goto done;
    }
    if (arguments.environment != Py_None && (environment = strings_of(arguments.environment)) == NULL) {
        goto done;
    }
    if (arguments.directory != Py_None && !PyUnicode_FSConverter(arguments.directory, &directory)) {
        goto done;
    }
    Py_ssize_t count = descriptors_of(&arguments, &descriptors);
    if (count < 0) {
        goto done;
    }
    struct wisp_command command = {
        .argv = argv,
        .environment = environment,
        .directory = directory == NULL ? NULL : PyBytes_AS_STRING(directory),
        .descriptors = descriptors,
        .descriptor_count = (uint32_t)count,
        .new_group = arguments.new_session || arguments.group == 0,
    };
    errno = 0;
    result = PyLong_FromPid(start(&arguments, &command, executables));
done:
    PyMem_Free(descriptors);
    Py_XDECREF(directory);
    free_strings(environment);
    free_strings(argv);
    free_strings(executables);
    return result;
}

static PyMethodDef methods[] = {
    {"fork_exec", fork_exec, METH_VARARGS, "Starts a program as subprocess.Popen asks for it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_posixsubprocess", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__posixsubprocess(void)
{
    return PyModuleDef_Init(&definition);
}
