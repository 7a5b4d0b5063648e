"""Every call of the published `stacyvm` client, against a provider of a running server.

    python stacyvm_client.py URL KEY PROVIDER

The key needs the scope `admin`, for the quotas.

Fails with an AssertionError or the client's own exception; prints how many calls work at the end; a public
method that was not called is a failure too.
"""

import asyncio
import inspect
import sys

from stacyvm import AsyncClient, Client
from stacyvm.async_sandbox import AsyncSandbox
from stacyvm.exceptions import SandboxNotFound, StacyVMError
from stacyvm.models import QuotaSummary, Template
from stacyvm.providers import ProviderManager
from stacyvm.sandbox import Sandbox
from stacyvm.templates import TemplateManager

URL, KEY, PROVIDER = sys.argv[1:]
CALLED = set()


def watch(kind):
    """Notes which public methods and properties of a class are used."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            setattr(kind, name, property(noting(f"{kind.__name__}.{name}", member.fget)))
        elif inspect.isfunction(member):
            setattr(kind, name, noting(f"{kind.__name__}.{name}", member))


def noting(name, function):
    def noted(*args, **kwargs):
        CALLED.add(name)
        return function(*args, **kwargs)

    noted.__name__ = name
    return noted


KINDS = [Client, AsyncClient, Sandbox, AsyncSandbox, TemplateManager, ProviderManager]
for watched in KINDS:
    watch(watched)
PUBLIC = {f"{kind.__name__}.{name}" for kind in KINDS for name in vars(kind) if not name.startswith("_")}


def raises(expected, call, *args, **kwargs):
    """The exception that a call must end in."""
    try:
        call(*args, **kwargs)
    except expected as error:
        return error
    raise AssertionError(f"{call.__name__}{args} did not raise {expected.__name__}")


def equal(actual, expected):
    """Fails with both values unless they are the same."""
    assert actual == expected, f"{actual!r} is not {expected!r}"


def output_of(chunks):
    """What a stream wrote, by stream."""
    written = {"stdout": "", "stderr": ""}
    for chunk in chunks:
        written[chunk.stream] += chunk.data
    return written


def use_server(client):
    equal(client.health()["status"], "ok")
    equal([provider["name"] for provider in client.providers() if provider["default"]], ["wasm"])
    providers = ProviderManager(client._http)
    [this] = [provider for provider in providers.list() if provider["name"] == PROVIDER]
    assert this["healthy"] is True, this
    assert providers.test()[PROVIDER] is True
    equal(client.prune(), 0)
    assert isinstance(client.pool_status()["enabled"], bool)
    equal(client.quota_summary(), QuotaSummary())


def use_admission(decision):
    assert decision.allowed is True, decision
    equal(decision.active_sandboxes, 0)


def use_templates(client):
    template = Template(
        name="small", image="alpine:latest", memory_mb=128, vcpus=1, ttl="5m", provider=PROVIDER, metadata={"a": "b"}
    )
    for _ in range(2):
        equal(client.templates.save(template), template)
    equal(client.templates.get("small"), template)
    equal(client.templates.list(), [template])
    sandbox = client.spawn_template("small")
    equal((sandbox.provider, sandbox.image), (PROVIDER, "alpine:latest"))
    [info] = client.list()
    equal((info.memory_mb, info.metadata), (128, {"a": "b"}))
    sandbox.destroy()
    with client.spawn(template="small", memory_mb=256) as sandbox:
        equal((sandbox.provider, client.list()[0].memory_mb), (PROVIDER, 256))
    changed = Template(name="small", image="python:3.12", provider=PROVIDER)
    equal(raises(StacyVMError, client.templates.save, changed).code, "conflict")
    client.templates.delete("small")
    raises(SandboxNotFound, client.templates.get, "small")
    raises(SandboxNotFound, client.spawn_template, "small")


def use_commands(sandbox):
    result = sandbox.exec("echo hello; echo oops >&2; exit 3")
    equal((result.exit_code, result.stdout, result.stderr), (3, "hello\n", "oops\n"))
    assert result.duration.endswith("s"), result
    result = sandbox.exec("python3 -c \"print(40 + 2)\"", timeout="10s")
    equal((result.exit_code, result.stdout), (0, "42\n"))
    result = sandbox.exec("printf '%s|'", args=["a b", "it's", "$HOME"])
    equal(result.stdout, "a b|it's|$HOME|")
    result = sandbox.exec("python3", args=["-c", "import sys; print(sys.argv[1:])", "a b", "*"], mode="argv")
    equal(result.stdout, "['a b', '*']\n")
    result = sandbox.exec("echo $COLOUR; pwd", env={"COLOUR": "red"}, workdir="/tmp")
    equal(result.stdout, "red\n/tmp\n")
    error = raises(StacyVMError, sandbox.exec, "while :; do :; done", timeout="1s")
    equal(error.code, "timeout")

    chunks = list(sandbox.exec_stream("echo one; echo two >&2; echo three"))
    equal(output_of(chunks), {"stdout": "one\nthree\n", "stderr": "two\n"})
    chunks = sandbox.exec_stream("echo $COLOUR; pwd; cat", env={"COLOUR": "blue"}, workdir="/tmp")
    equal(output_of(chunks)["stdout"], "blue\n/tmp\n")
    chunks = sandbox.exec_stream("python3", args=["-c", "print('é' * 100_000)"], mode="argv")
    equal(output_of(chunks)["stdout"], "é" * 100_000 + "\n")


def use_files(sandbox):
    script = "#!/bin/sh\necho \"ran with $1\"\n# ünïcode\n"
    sandbox.write_file("/app/deep/er/run.sh", script, mode="0755")
    equal(sandbox.read_file("/app/deep/er/run.sh"), script)
    equal(sandbox.exec("/app/deep/er/run.sh x").stdout, "ran with x\n")

    info = sandbox.stat_file("/app/deep/er/run.sh")
    assert info["name"] == "run.sh" and info["path"] == "/app/deep/er/run.sh", info
    assert info["size"] == len(script.encode()) and info["is_dir"] is False and info["mode"] == "0755", info
    assert info["mod_time"].endswith("Z"), info
    sandbox.chmod_file("/app/deep/er/run.sh", "600")
    equal(sandbox.stat_file("/app/deep/er/run.sh")["mode"], "0600")
    equal(sandbox.exec("/app/deep/er/run.sh").exit_code, 126)

    equal(sandbox.exec("echo made inside >/app/deep/inside.txt").exit_code, 0)
    equal(sandbox.read_file("/app/deep/inside.txt"), "made inside\n")
    equal([entry["name"] for entry in sandbox.list_files("/app/deep")], ["er", "inside.txt"])
    assert "tmp" in [entry["name"] for entry in sandbox.list_files()]

    sandbox.move_file("/app/deep/inside.txt", "/app/elsewhere/moved.txt")
    equal(sandbox.read_file("/app/elsewhere/moved.txt"), "made inside\n")
    raises(SandboxNotFound, sandbox.read_file, "/app/deep/inside.txt")
    sandbox.write_file("/app/a.py", "")
    equal(sandbox.glob_files("/app/**/*.txt"), ["/app/elsewhere/moved.txt"])
    equal(sandbox.glob_files("/app/*.py"), ["/app/a.py"])
    equal(sandbox.glob_files("/app/*.rs"), [])

    sandbox.delete_file("/app/a.py")
    raises(SandboxNotFound, sandbox.stat_file, "/app/a.py")
    raises(StacyVMError, sandbox.delete_file, "/app/deep")
    sandbox.delete_file("/app/deep", recursive=True)
    raises(SandboxNotFound, sandbox.list_files, "/app/deep")
    raises(StacyVMError, sandbox.write_file, "/app/../etc/passwd", "x")


def use_everything():
    with Client(URL, api_key=KEY, user_id="user_123") as client:
        use_server(client)
        use_admission(client.admission(image="python:3.12", provider=PROVIDER, memory_mb=256, vcpus=1, ttl="10m"))
        use_templates(client)
        sandbox = client.spawn(
            image="python:3.12", provider=PROVIDER, memory_mb=256, vcpus=1, ttl="10m", metadata={"purpose": "test"}
        )
        equal((sandbox.state, sandbox.provider, sandbox.image), ("running", PROVIDER, "python:3.12"))
        [info] = client.list()
        assert info.id == sandbox.id and info.memory_mb == 256 and info.metadata == {"purpose": "test"}, info
        equal(client.get(sandbox.id).id, sandbox.id)
        use_commands(sandbox)
        use_files(sandbox)
        before = sandbox._info["expires_at"]
        sandbox.extend_ttl("1h")
        assert sandbox._info["expires_at"] > before
        sandbox.refresh()
        equal(sandbox.get_preview_url(8000), f"http://8000-{sandbox.id}.localhost")
        sandbox.destroy()
        sandbox.destroy()
        raises(SandboxNotFound, sandbox.exec, "true")
        raises(SandboxNotFound, client.get, sandbox.id)

        with client.spawn(provider=PROVIDER) as sandbox:
            equal(sandbox.image, "alpine:latest")
            equal(sandbox.exec("echo $((40 + 2))").stdout, "42\n")
        equal(client.list(), [])
    with Client(URL, api_key="wrong") as stranger:
        equal(raises(StacyVMError, stranger.list).code, "UNAUTHORIZED")


async def use_everything_asynchronously():
    async with AsyncClient(URL, api_key=KEY, user_id="user_123") as client:
        equal((await client.health())["status"], "ok")
        assert PROVIDER in [provider["name"] for provider in await client.providers()]
        use_admission(await client.admission(image="python:3.12", provider=PROVIDER, ttl="10m"))
        equal(await client.quota_summary(), QuotaSummary())
        assert isinstance((await client.pool_status())["enabled"], bool)
        template = Template(name="async", image="alpine:latest", provider=PROVIDER)
        with Client(URL, api_key=KEY, user_id="user_123") as synchronous:
            synchronous.templates.save(template)
        sandbox = await client.spawn_template("async")
        equal(sandbox.image, "alpine:latest")
        await sandbox.destroy()
        with Client(URL, api_key=KEY, user_id="user_123") as synchronous:
            synchronous.templates.delete("async")
        sandbox = await client.spawn(image="python:3.12", provider=PROVIDER, ttl="10m")
        equal((sandbox.state, sandbox.provider, sandbox.image), ("running", PROVIDER, "python:3.12"))
        equal([info.id for info in await client.list()], [sandbox.id])
        equal((await client.get(sandbox.id)).id, sandbox.id)

        async def doubled(number):
            return (await sandbox.exec(f"python3 -c 'print({number} * 2)'")).stdout

        equal(await asyncio.gather(*map(doubled, range(8))), [f"{number * 2}\n" for number in range(8)])
        chunks = [chunk async for chunk in sandbox.exec_stream("echo one; echo two >&2")]
        equal(output_of(chunks), {"stdout": "one\n", "stderr": "two\n"})
        await sandbox.write_file("/tmp/a.txt", "a")
        equal(await sandbox.read_file("/tmp/a.txt"), "a")
        await sandbox.move_file("/tmp/a.txt", "/tmp/b.txt")
        await sandbox.chmod_file("/tmp/b.txt", "0640")
        equal((await sandbox.stat_file("/tmp/b.txt"))["mode"], "0640")
        assert "b.txt" in [entry["name"] for entry in await sandbox.list_files("/tmp")]
        equal(await sandbox.glob_files("/tmp/*.txt"), ["/tmp/b.txt"])
        await sandbox.delete_file("/tmp/b.txt")
        await sandbox.extend_ttl("1h")
        await sandbox.refresh()
        equal(sandbox.get_preview_url(8000), f"http://8000-{sandbox.id}.localhost")
        await sandbox.destroy()
        equal(await client.list(), [])
        equal(await client.prune(), 0)


use_everything()
asyncio.run(use_everything_asynchronously())
equal(PUBLIC - CALLED, set())
print(f"{len(PUBLIC)} calls work")
