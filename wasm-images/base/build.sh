#!/usr/bin/env bash
# Builds the guest programs of the base image into $WISP_OUT. Needs Rust with a wasm32-wasip1 standard library, patch,
# and the Cargo registry; zstd when $WISP_WASI_SYSROOT is an archive.
#
#   WISP_OUT          where the modules go (required)
#   WISP_BUILD_DIR    where unpacked crates and the cargo target directory stay between builds
#   WISP_WASI_SYSROOT a wasm32-wasip1 sysroot (directory or .tar.zst) for toolchains that have none
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${WISP_OUT:?name the directory for the modules in WISP_OUT}
build=${WISP_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wisp/build/base}
target=wasm32-wasip1
mkdir -p "$build" "$out"

# The guest's standard library.
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

# Crates we patch: patches/NAME-VERSION.patch. Unpacked from the registry's archive, whose digest patches/SHA256SUMS pins.
patched=()
fetch=$build/fetch
mkdir -p "$fetch/src" && : >"$fetch/src/lib.rs"
{
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\n'
    for file in "$here"/patches/*.patch; do
        crate=$(basename "$file" .patch)
        printf '%s = "=%s"\n' "${crate%-*}" "${crate##*-}"
    done
    printf '[workspace]\n'
} >"$fetch/Cargo.toml"
cargo fetch --quiet --manifest-path "$fetch/Cargo.toml"
for file in "$here"/patches/*.patch; do
    crate=$(basename "$file" .patch)
    archive=$(ls "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/"$crate.crate" | head -n 1)
    (cd "$(dirname "$archive")" && grep " $crate.crate\$" "$here/patches/SHA256SUMS" | sha256sum --quiet --check -)
    key=$(cat "$file" "$archive" | sha256sum | cut -c1-16)
    source=$build/crates/$crate-$key
    if [[ ! -d $source ]]; then
        rm -rf "$source.new" && mkdir -p "$source.new"
        tar xzf "$archive" -C "$source.new" --strip-components=1
        patch --quiet --strip=1 --directory="$source.new" <"$file"
        mv "$source.new" "$source"
    fi
    patched+=(--config "patch.crates-io.${crate%-*}.path=\"$source\"")
done

cd "$here"
CARGO_TARGET_DIR=$build/target cargo build --release --locked --target "$target" "${patched[@]}" "$@"
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
