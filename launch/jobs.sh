# Sourced by the scripts that run jobs in a row: one titled line per job, with the time since the start.

export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$repository/runs/jax_cache}
# Huge pages for XLA's buffers, where glibc and the system have them (bagpiper_jax/runs/huge_pages.py).
if [[ $JAX_PLATFORMS == cpu ]]; then
    export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
fi

elapsed() {
    printf '%d:%02d' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60))
}

job() {
    local title=$1 name=$2
    shift 2
    printf '\n== %s (%s)\n' "$title" "$(elapsed)"
    python -m bagpiper_jax "$name" "$@"
}
