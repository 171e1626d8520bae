SUMMARY = "Reaches devices on the LAN for a Linkspan server"
DESCRIPTION = "Makes the devices on a LAN (PLC, camera, old HMI) reachable through a Linkspan server, which it calls: no open port, no fixed address."
HOMEPAGE = "https://github.com/linkspan/linkspan"
BUGTRACKER = "https://github.com/linkspan/linkspan/issues"
SECTION = "net"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

# The tarball of a release, made by `make release`; its folder is ${BP}, so S needs no line in any series.
SRC_URI = " \
    https://github.com/linkspan/linkspan/releases/download/v${PV}/${BP}.tar.gz;name=source \
    file://linkspan-gateway.init \
"
# Written beside the tarball of each release.
SRC_URI[source.sha256sum] = "0000000000000000000000000000000000000000000000000000000000000000"

inherit cargo cargo-update-recipe-crates systemd update-rc.d useradd

require ${BPN}-crates.inc

UNPACKDIR ?= "${WORKDIR}"

# Features unify across a workspace build, so the gateway is built alone.
CARGO_BUILD_FLAGS += "-p linkspan-gateway --no-default-features"
PACKAGECONFIG ??= "compress mdns netlink ssdp update"
PACKAGECONFIG[compress] = "--features=compress,,"
PACKAGECONFIG[mdns] = "--features=mdns,,"
PACKAGECONFIG[netlink] = "--features=netlink,,"
PACKAGECONFIG[ssdp] = "--features=ssdp,,"
PACKAGECONFIG[update] = "--features=update,,"

SYSTEMD_SERVICE:${PN} = "linkspan-gateway.service"
SYSTEMD_AUTO_ENABLE = "disable"
INITSCRIPT_NAME = "linkspan-gateway"
INITSCRIPT_PARAMS = "stop 10 0 1 6 ."

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --user-group --home-dir ${sysconfdir}/linkspan --no-create-home --shell /sbin/nologin linkspan"

# cargo.bbclass would install every program of the workspace.
do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/linkspan-gateway ${D}${bindir}/linkspan-gateway
    install -d -m 0755 -o linkspan -g linkspan ${D}${sysconfdir}/linkspan
    install -m 0644 ${S}/gateway/gateway.example.toml ${D}${sysconfdir}/linkspan/
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -D -m 0644 ${S}/systemd/linkspan-gateway.service ${D}${systemd_system_unitdir}/linkspan-gateway.service
    fi
    if ${@bb.utils.contains('DISTRO_FEATURES', 'sysvinit', 'true', 'false', d)}; then
        install -D -m 0755 ${UNPACKDIR}/linkspan-gateway.init ${D}${sysconfdir}/init.d/linkspan-gateway
    fi
}

RDEPENDS:${PN} += "ca-certificates"
