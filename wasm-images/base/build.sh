#!/usr/bin/env bash
# Builds the guest programs of the base image into $WISP_OUT (required). What it needs and reads beside that: cargo.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${WISP_OUT:?name the directory for the modules in WISP_OUT}
build=${WISP_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wisp/build/base}
target=wasm32-wasip1
mkdir -p "$out"

bash "$here/cargo.sh" build --release --locked --target "$target" "$@"
for module in sh tools; do
    cp "$build/target/$target/release/$module.wasm" "$out/$module.wasm"
done

# The files of the image: those of rootfs/, and the directories git does not keep.
layer=$out/layer
rm -rf "$layer" && mkdir -p "$layer"
cp -R "$here/rootfs/." "$layer"
(
    cd "$layer"
    mkdir -p home mnt opt srv usr/bin usr/lib usr/sbin usr/share usr/include usr/src var/log var/lib \
        usr/local/bin usr/local/sbin usr/local/lib usr/local/share run
    mkdir -p -m 0700 root
    mkdir -p -m 1777 tmp var/tmp
    mkdir -p -m 0755 app workspace
    chmod 0755 etc && chmod 0644 etc/*
    ln -s usr/bin bin && ln -s usr/sbin sbin && ln -s usr/lib lib
)
