#!/usr/bin/env bash
# Runs Cargo on the guest programs of the base image: with the crates that we patch and, when the arguments name the target
# wasm32-wasip1, its standard library. Arguments go to Cargo. Needs Rust, patch and the Cargo registry; zstd when $WISP_WASI_SYSROOT is an archive.
#
#   WISP_BUILD_DIR    where unpacked crates and the Cargo target directory stay between builds
#   WISP_WASI_SYSROOT a wasm32-wasip1 sysroot (directory or .tar.zst) for toolchains that have none
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${WISP_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wisp/build/base}
mkdir -p "$build"
if [[ " $* " == *wasm32-wasip1* ]]; then
    # shellcheck source=wasm-images/base/standard-library.sh
    . "$here/standard-library.sh"
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
command=$1
shift
CARGO_TARGET_DIR=$build/target exec cargo "$command" "${patched[@]}" "$@"
