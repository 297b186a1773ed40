#!/bin/sh
# Prints the instruction sets of this CPU by the names of LUMINA_MAX_SIMD, but for the best one,
# which the kernels take by themselves.

flags=" $(sed -n 's/^\(flags\|Features\)[[:space:]]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1) "

has() {
    for flag in "$@"; do
        case $flags in *" $flag "*) ;; *) return 1 ;; esac
    done
}

found=
add() {
    [ -z "$found" ] || printf '%s\n' "$found"
    found=$1
}

add baseline
case $(uname -m) in
aarch64 | arm64)
    if has asimddp; then
        add dotprod
        if has i8mm; then add i8mm; fi
    fi
    ;;
x86_64)
    if has avx2 fma; then
        add avx2
        if has avx_vnni; then add avx2vnni; fi
        if has avx512f avx512bw avx512dq avx512vl; then
            add avx512
            if has avx512_vnni; then
                add avx512vnni
                if has avx512_bf16; then add avx512bf16; fi
            fi
        fi
    fi
    ;;
esac
