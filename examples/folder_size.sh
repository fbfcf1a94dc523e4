#!/bin/sh
# A command that speaks to its worker by JSON lines: progress while it runs, a result at its end.
#   fleetlog run --wait --json -- sh examples/folder_size.sh docs tests
set -eu
for folder in "$@"; do
    [ -d "$folder" ] || { echo "$folder is no folder" >&2; exit 65; } # 65, wrong input: never tried again
done
done_count=0 sizes=""
for folder in "$@"; do
    kib=$(du -sk "$folder" | cut -f1)
    done_count=$((done_count + 1))
    sizes="$sizes${sizes:+,}\"$folder\":$kib"
    printf '{"type":"progress","pct":%d,"msg":"%s has %d KiB"}\n' $((100 * done_count / $#)) "$folder" "$kib"
done
printf '{"type":"result","status":"ok","output":{%s}}\n' "$sizes"
