#!/usr/bin/env bash
# Builds CPython for the sandbox into $WISP_OUT: python.wasm, and the directory tree `layer` with its standard library.
#
# Needs a C compiler, make, patch, xz, python3 with venv, cargo, and apt-get with a mirror of Debian. All it fetches is
# pinned by digest (sources.sha256, requirements.txt). Four minutes on two cores; what was built stays for the next time.
#
#   WISP_OUT            where the result goes (required)
#   WISP_BUILD_DIR      where downloads and builds stay
#   WISP_DEBIAN_MIRROR  address of a mirror; the one this machine installs packages from when it runs Debian
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${WISP_OUT:?name the directory for the result in WISP_OUT}
build=${WISP_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wisp/build/python-3.13}
version=3.13.5
debian_version=3.13.5-2+deb13u5
jobs=$(nproc)
mkdir -p "$build/downloads" "$out"
# What stays is the same, wherever the checkout lies that it was built from.
ln -sfn "$here" "$build/recipe"
here=$build/recipe
# The clock of everything that stamps its products: the release of this version.
export SOURCE_DATE_EPOCH=1749600000 LC_ALL=C TZ=UTC PYTHONHASHSEED=0
unset CFLAGS CPPFLAGS LDFLAGS CC CPP AR RANLIB PYTHONPATH PYTHONHOME MAKEFLAGS

# -- Stages that are done once ----------------------------------------------------------------------------------------

# The digest of the files and directories named.
digest_of() {
    (cd "$here" && find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
}

# stage NAME DIRECTORY: runs the function NAME in the new DIRECTORY, unless an earlier run finished that.
stage() {
    local name=$1 directory=$2
    [[ ! -e $directory/.done ]] || return 0
    echo "python-3.13: $name"
    rm -rf "$directory" && mkdir -p "$directory"
    # Not as a condition: there bash would go on after errors.
    set +e
    (
        set -e
        cd "$directory"
        "$name"
    ) >"$build/$name.log" 2>&1
    local status=$?
    set -e
    if ((status != 0)); then
        tail -n 25 "$build/$name.log"
        return "$status"
    fi
    touch "$directory/.done"
}

check_downloads() {
    (cd "$build/downloads" && sha256sum --quiet --strict --check "$here/sources.sha256")
}

# -- Downloads --------------------------------------------------------------------------------------------------------

download() {
    if ! check_downloads; then
        download_debian_source
        download_crates
        check_downloads
    fi
}

# Debian's source of Python with its security patches. The digests are what is trusted, not the mirror.
download_debian_source() {
    local mirror=${WISP_DEBIAN_MIRROR:-}
    if [[ -z $mirror ]]; then
        # shellcheck disable=SC2016 # apt's own variables
        mirror=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(SITE)' | sed -n 's/^Debian [a-z]* //p' | head -n 1)
        [[ -n $mirror ]] || {
            echo "set WISP_DEBIAN_MIRROR to the address of a Debian mirror"
            return 1
        }
    fi
    mkdir -p apt/lists/partial apt/cache/archives/partial
    : >apt/status
    for suite in trixie trixie-updates; do
        echo "deb-src [trusted=yes] $mirror $suite main"
    done >apt/sources.list
    echo "deb-src [trusted=yes] ${mirror%/}-security trixie-security main" >>apt/sources.list
    cat >apt/apt.conf <<EOF
Dir::Etc::sourcelist "$PWD/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$PWD/apt/lists";
Dir::State::status "$PWD/apt/status";
Dir::Cache "$PWD/apt/cache";
APT::Sandbox::User "$(id -un)";
EOF
    export APT_CONFIG=$PWD/apt/apt.conf
    apt-get update
    (cd "$build/downloads" && apt-get source --download-only "python3.13=$debian_version")
}

# The C libraries, as crates carry them.
download_crates() {
    mkdir -p crates/src && : >crates/src/lib.rs
    {
        printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n'
        sed -nE 's/^[0-9a-f]+  (.*)-([0-9.]+)(\+.*)?\.crate$/\1 = "=\2"/p' "$here/sources.sha256"
    } >crates/Cargo.toml
    cargo fetch --manifest-path crates/Cargo.toml
    sed -nE 's/^[0-9a-f]+  (.*\.crate)$/\1/p' "$here/sources.sha256" | while read -r crate; do
        cp "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/"$crate" "$build/downloads"
    done
}

toolchain() {
    python3 -m venv venv
    venv/bin/python -m pip --disable-pip-version-check download --no-deps --only-binary :all: --require-hashes \
        --requirement "$here/requirements.txt" --dest wheels
    python3 -m zipfile -e wheels/ziglang-*.whl .
    chmod +x ziglang/zig
    mkdir hidden
    # Zig offers the headers of musl for Linux as well, which wasi-libc does not implement.
    grep -v '^$' "$here/hidden-headers.txt" | while read -r header; do
        mkdir -p "hidden/$(dirname "$header")"
        echo "#error \"$header does not exist in wasi-libc\"" >"hidden/$header"
    done
}

# -- C libraries ------------------------------------------------------------------------------------------------------

crate() {
    mkdir -p "$1"
    tar xzf "$build/downloads/$1"-[0-9]*.crate -C "$1" --strip-components=1
}

# archive LIBRARY FLAGS... -- SOURCES...
archive() {
    local library=$1 flags=()
    shift
    while [[ $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    shift
    mkdir -p "objects-$library" lib
    printf '%s\n' "$@" | xargs -P "$jobs" -I{} sh -c \
        'object=$0/$(basename "$1" .c).o; shift; exec "$@" -c {} -o "$object"' "objects-$library" {} "$CC" -O2 -g0 "${flags[@]}"
    rm -f "lib/lib$library.a"
    "$AR" rcs "lib/lib$library.a" "objects-$library"/*.o
}

libraries() {
    for name in bzip2-sys liblzma-sys libsqlite3-sys libz-sys; do
        crate "$name"
    done
    mkdir include
    local zlib=libz-sys/src/zlib bzip2=bzip2-sys/bzip2-1.0.8 xz=liblzma-sys/xz/src sqlite=libsqlite3-sys/sqlite3
    archive z -- "$zlib"/{adler32,compress,crc32,deflate,inffast,inflate,inftrees,trees,uncompr,zutil}.c
    archive bz2 -D_FILE_OFFSET_BITS=64 -- "$bzip2"/{blocksort,huffman,crctable,randtable,compress,decompress,bzlib}.c
    local lzma=$xz/liblzma sources
    mapfile -t sources < <(find "$lzma" -name '*.c' |
        grep -vE 'tablegen|_small\.c|_mt\.c|outqueue|hardware_|crc_clmul_consts_gen' | sort)
    archive lzma -std=gnu99 -DHAVE_CONFIG_H -Iliblzma-sys -I"$lzma"/{api,lzma,lz,check,simple,delta,common,rangecoder} \
        -I"$xz/common" -- "${sources[@]}"
    archive sqlite3 -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_WAL -DSQLITE_ENABLE_FTS5 \
        -DSQLITE_ENABLE_MATH_FUNCTIONS '-DSQLITE_DEFAULT_UNIX_VFS="unix-none"' -D_WASI_EMULATED_GETPID \
        -D_WASI_EMULATED_MMAN -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS -- "$sqlite/sqlite3.c"
    cp "$zlib"/{zlib,zconf}.h "$bzip2/bzlib.h" "$sqlite"/sqlite3{,ext}.h include
    cp -r "$lzma/api/." include
}

# The functions wasi-libc leaves out.
additions() {
    archive wisp -std=gnu17 -Wall -Wextra -Werror -D_GNU_SOURCE -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_GETPID -- \
        "$here"/libc/*.c
}

# -- CPython ----------------------------------------------------------------------------------------------------------

upstream() {
    tar xf "$build/downloads/python3.13_$version.orig.tar.xz" --strip-components=1
    tar xf "$build/downloads/python3.13_$debian_version.debian.tar.xz"
    # Of Debian's patches those that repair; the others fit Python into Debian.
    sed -n '/^CVE-/,$p' debian/patches/series | while read -r name; do
        patch --quiet --strip=1 <"debian/patches/$name"
    done
    touch Modules/Setup.local
}

# The source for the sandbox.
source_tree() {
    cp -R "$upstream/." .
    rm -f .done
    for file in "$here"/patches/*.patch; do
        patch --quiet --strip=1 <"$file"
    done
}

# The same version for the machine that builds, which the other one is built with.
native() {
    # Modules that building Python does not need.
    for name in _codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _ctypes _curses _curses_panel _dbm \
        _decimal _elementtree _gdbm _hashlib _sqlite3 _ssl _tkinter _uuid pyexpat readline; do
        export "py_cv_module_$name=n/a"
    done
    CC=cc CPP="cc -E" AR=ar RANLIB=ranlib "$upstream/configure" --quiet --disable-test-modules --without-ensurepip \
        CFLAGS="-O1 -g0"
    make --silent -j "$jobs" all
}

guest() {
    local flags="-I$libraries/include" path="-L$libraries/lib"
    ZLIB_CFLAGS=$flags ZLIB_LIBS="$path -lz" BZIP2_CFLAGS=$flags BZIP2_LIBS="$path -lbz2" \
        LIBLZMA_CFLAGS=$flags LIBLZMA_LIBS="$path -llzma" LIBSQLITE3_CFLAGS=$flags LIBSQLITE3_LIBS="$path -lsqlite3" \
        LIBS="-L$additions/lib -lwisp" CONFIG_SITE=$here/config.site PKG_CONFIG_LIBDIR=/nonexistent PKG_CONFIG_PATH='' HOSTRUNNER=true \
        CFLAGS="-O2 -g0 -ffile-prefix-map=$source=/usr/src/python" \
        "$source/configure" --quiet --host=wasm32-wasip1 --build="$("$source/config.guess")" \
        --with-build-python="$native/python" --prefix=/usr/local --disable-test-modules --without-ensurepip --disable-ipv6 \
        --with-pymalloc --without-mimalloc
    # Python's stand-ins for threads need these types, whose header is hidden.
    sed -i -E \
        -e 's@^(#define SIZEOF_PTHREAD_KEY_T 0|/\* #undef SIZEOF_PTHREAD_KEY_T \*/)@#define SIZEOF_PTHREAD_KEY_T 4@' \
        -e 's@^(#define SIZEOF_PTHREAD_T 0|/\* #undef SIZEOF_PTHREAD_T \*/)@#define SIZEOF_PTHREAD_T 4@' \
        -e 's@^/\* #undef PTHREAD_KEY_T_IS_COMPATIBLE_WITH_INT \*/@#define PTHREAD_KEY_T_IS_COMPATIBLE_WITH_INT 1@' pyconfig.h
    make --silent -j "$jobs" all
}

# Our own main and modules, linked with all the rest.
link() {
    local flags=(-O2 -g0 -std=gnu17 -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_GETPID -DNDEBUG -DPy_BUILD_CORE -fno-strict-overflow -D_GNU_SOURCE
        "-ffile-prefix-map=$here=/usr/src/wisp" -I"$guest" -I"$source/Include" -I"$source/Include/internal"
        -I"$source/Include/internal/mimalloc" -I"$source/Modules" -I"$here/libc" -I.)
    "$native/python" "$here/embed.py" "$here/boot.py" boot_source >boot_source.h
    local objects=()
    for file in "$here/main.c" "$here"/modules/*.c; do
        objects+=("$(basename "$file" .c).o")
        "$CC" "${flags[@]}" -Wall -Wextra -Werror -Wno-unused-parameter -c "$file" -o "${objects[-1]}"
    done
    local variables
    # shellcheck disable=SC2016 # make's own variables
    variables=$(make --silent -C "$guest" -f Makefile -f <(printf 'wisp-print:\n\t@echo $(PY_CORE_LDFLAGS) $(LINKFORSHARED) \
        libpython3.13.a $(MODLIBS) $(LIBS) $(SYSLIBS)\n') wisp-print)
    # shellcheck disable=SC2086 # several words
    (cd "$guest" && "$CC" -o "$OLDPWD/python.wasm" "${objects[@]/#/$OLDPWD/}" "$additions/lib/libwisp.a" $variables)
}

standard_library() {
    local library=$out/layer/usr/local/lib/python3.13
    mkdir -p "$library/lib-dynload" "$library/site-packages" "$out/layer/usr/local/bin"
    tar cf - -C "$source/Lib" --exclude=test --exclude=tests --exclude=idlelib --exclude=tkinter --exclude=ensurepip \
        --exclude=turtledemo --exclude=turtle.py --exclude=__pycache__ . | tar xf - -C "$library"
    cp -R "$here/lib/." "$library"
    # It tells how Python was built; where on this machine is nobody's concern.
    local data
    data=$(cat "$guest/pybuilddir.txt")
    sed -e "s|$here|/usr/src/wisp|g" -e "s|$build|/usr/src|g" "$guest/$data"/_sysconfigdata*.py \
        >"$library/$(basename "$guest/$data"/_sysconfigdata*.py)"
    python3 -m zipfile -e "$toolchain"/wheels/pip-*.whl "$library/site-packages"
    for name in pip pip3 pip3.13; do
        cp "$here/pip" "$out/layer/usr/local/bin/$name"
    done
    # Files of an image do not change, so that their byte code need not be compared with them.
    "$native/python" -m compileall -q -j "$jobs" --invalidation-mode unchecked-hash -s "$out/layer" -p / "$library"
    chmod -R u=rwX,go=rX "$out/layer"
    chmod 0755 "$out/layer/usr/local/bin"/*
}

stage download "$build/download-$(digest_of sources.sha256)"
export toolchain=$build/toolchain-$(digest_of requirements.txt hidden-headers.txt)
stage toolchain "$toolchain"
export ZIG=$toolchain/ziglang/zig HIDDEN_HEADERS=$toolchain/hidden WISP_LIBC=$here/libc
export ZIG_GLOBAL_CACHE_DIR=$build/zig-cache ZIG_LOCAL_CACHE_DIR=$build/zig-cache
export CC="$here/cc" CPP="$here/cc -E" AR="$here/ar" RANLIB="$here/ranlib"
libraries=$build/libraries-$(digest_of sources.sha256 requirements.txt hidden-headers.txt cc libc/include)
stage libraries "$libraries"
additions=$build/additions-$(digest_of requirements.txt hidden-headers.txt cc libc)
stage additions "$additions"
upstream=$build/upstream-$(digest_of sources.sha256)
stage upstream "$upstream"
native=$build/native-$(digest_of sources.sha256)
stage native "$native"
source=$build/source-$(digest_of sources.sha256 patches)
stage source_tree "$source"
guest=$build/guest-$({
    declare -f guest
    echo "$here"
    digest_of sources.sha256 patches requirements.txt hidden-headers.txt cc config.site libc/include
} | sha256sum | cut -c1-16)
stage guest "$guest"
linked=$build/linked
rm -rf "$linked"
stage link "$linked"
cp "$linked/python.wasm" "$out/python.wasm"
rm -rf "$out/layer"
standard_library
