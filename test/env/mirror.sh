# mirror.sh: to be sourced.  Where other Debians' packages come from.
#
#   suite_of N    print the Debian that has PostgreSQL N
#   $suite_here   this Debian's name, empty if it is none
#   $mirror       the archive that this Debian's apt uses, unless MIRROR names
#                 another one
#   $proxy        the proxy that apt uses for it, if any
#   $keyring      what its releases are signed with

suite_of() {
	case $1 in
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo forky ;;
		*) echo "no Debian with PostgreSQL $1 is known here" >&2; return 1 ;;
	esac
}

suite_here=$(. /etc/os-release 2>/dev/null && [ "${ID:-}" != debian ] || echo "${VERSION_CODENAME:-}")

# Of all that apt reads, the archive that has the release of this Debian's
# own name: others have its updates, or come from somebody else.
mirror=${MIRROR:-$(apt-get indextargets --no-release-info \
	--format '$(CREATED_BY) $(RELEASE) $(REPO_URI)' 2>/dev/null |
	awk -v suite="${suite_here:-none}" '$1 == "Packages" && $2 == suite { print $3; exit }' || true)}
# Such an address names a file of addresses.
case $mirror in
	mirror+file:*) mirror=$(grep -om1 '^http[^[:space:]]*' "${mirror#mirror+file:}" || true) ;;
esac
mirror=${mirror:-http://deb.debian.org/debian}
mirror=${mirror%/}

proxy=$(eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"; echo "${proxy:-${http_proxy:-}}")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
