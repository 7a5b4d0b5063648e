# Finds the guests' standard library. To be sourced, with $build set to a directory where it may be unpacked.
#
#   WISP_WASI_SYSROOT a wasm32-wasip1 sysroot (directory or .tar.zst) for toolchains that have none
target=wasm32-wasip1
if [[ ! -d $(rustc --print target-libdir --target "$target") ]]; then
    sysroot=${WISP_WASI_SYSROOT:-}
    if [[ -z $sysroot ]]; then
        rustup target add "$target"
    else
        if [[ -f $sysroot ]]; then
            unpacked=$build/sysroot-$(sha256sum "$sysroot" | cut -c1-16)
            if [[ ! -d $unpacked ]]; then
                mkdir "$unpacked.new"
                zstd -dc "$sysroot" | tar x -C "$unpacked.new" --strip-components=1
                mv "$unpacked.new" "$unpacked"
            fi
            sysroot=$unpacked
        fi
        # Build scripts and procedural macros run on this machine and need its standard library.
        host=$(rustc -vV | sed -n 's/^host: //p')
        [[ -e $sysroot/lib/rustlib/$host ]] || ln -s "$(rustc --print sysroot)/lib/rustlib/$host" "$sysroot/lib/rustlib/$host"
        export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="--sysroot $sysroot"
    fi
fi
