#!/bin/sh
# Prints one sentence about the first thing a build needs and this machine lacks; else nothing.

python=${PYTHON:-python3}
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

lacks() {
    printf '%s\n' "$1"
    exit
}

at_least() { # have needed, both major.minor
    [ "${1%%.*}" -gt "${2%%.*}" ] ||
        { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${1#*.}" -ge "${2#*.}" ]; }
}

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    lacks "Python is missing: \`$python\` does not run; install Python 3.11 or newer, or name one with \`make PYTHON=...\`"
at_least "$version" 3.11 ||
    lacks "Python is too old: \`$python\` is $version and 3.11 or newer is needed; name a newer one with \`make PYTHON=python3.11\`"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    lacks "Python's venv module is missing: install it (on Debian and Ubuntu the package is python$version-venv)"

command -v cargo >/dev/null 2>&1 ||
    lacks "Rust is missing: \`cargo\` is not on the PATH; install Rust $rust_needed or newer from https://rustup.rs"
version=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9]*\.[0-9]*\).*/\1/p')
[ -n "$version" ] ||
    lacks "Rust is missing: \`rustc --version\` fails; install Rust $rust_needed or newer from https://rustup.rs"
at_least "$version" "$rust_needed" ||
    lacks "Rust is too old: \`rustc\` is $version and $rust_needed or newer is needed; run \`rustup update\`"

command -v cc >/dev/null 2>&1 ||
    lacks "The C linker is missing: \`cc\` is not on the PATH and Rust links with it; install gcc or clang"
