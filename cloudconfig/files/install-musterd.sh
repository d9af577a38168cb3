#!/bin/sh
# Fetches musterd when it is not there, and checks it. Started by musterd.service at every boot.
set -eu
target=${MUSTERD_PATH:-/opt/muster/bin/musterd}
[ -x "$target" ] && exit 0
case $(uname -m) in
#DOWNLOADS#
*)
	echo "there is no musterd for $(uname -m)" >&2
	exit 1
	;;
esac
mkdir -p "${target%/*}"
new=$(mktemp "$target.XXXXXX")
trap 'rm -f "$new"' EXIT
for url; do
	if command -v curl >/dev/null; then
		curl -fsSL --retry 3 --connect-timeout 10 -o "$new" "$url" || continue
	else
		wget -q -T 10 -t 3 -O "$new" "$url" || continue
	fi
	if echo "$sum  $new" | sha256sum -c - >/dev/null 2>&1; then
		chmod 0755 "$new"
		sync
		mv "$new" "$target"
		exit 0
	fi
	echo "$url is not the musterd with SHA-256 $sum" >&2
done
echo "no musterd could be fetched" >&2
exit 1
