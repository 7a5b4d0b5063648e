fn main() {
    eprintln!(
        "not wired yet: run guest modules under the real kernel with /tmp/run_modules (source: examples/run_modules.rs): run_modules -m FILE.wasm=/usr/bin/a,/usr/bin/b -m FILE.wasm=@LIST_OF_PATHS -r ROOTFS [-w CWD] [-e K=V] [-t SECS] [-n REPEAT] -- argv...   (env V=1 prints outcome, STDIN=1 passes stdin)"
    );
}
