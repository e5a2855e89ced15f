#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, from the system's
# packages: a browser, PostgreSQL's programs, and counterparts to check our
# output with. Does nothing where all is there.
set -euo pipefail
missing=()
need() { # command-or-file package
  if [[ $1 == /* ]]; then [[ -e $1 ]] || missing+=("$2"); else command -v "$1" >/dev/null || missing+=("$2"); fi
}
need chromium chromium
need /usr/lib/softhsm/libsofthsm2.so softhsm2
need openssl openssl
need curl curl
need jq jq
need pdfsig poppler-utils
need certutil libnss3-tools
need qpdf qpdf
need xmlsec1 xmlsec1
need xmllint libxml2-utils
need javac default-jdk-headless
need /usr/share/java/bcpkix.jar libbcpkix-java
need /usr/share/java/bcprov.jar libbcprov-java
need /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc fonts-noto-cjk
if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && [[ -z ${PG_BIN:-} ]]; then
  missing+=(postgresql)
fi
[[ ${#missing[@]} -eq 0 ]] && exit 0
echo "installing for the tests: ${missing[*]}"
as_root=()
[[ $(id -u) -eq 0 ]] || as_root=(sudo)
if ! command -v apt-get >/dev/null; then
  echo "this is no Debian; please install: ${missing[*]}" >&2
  exit 1
fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
