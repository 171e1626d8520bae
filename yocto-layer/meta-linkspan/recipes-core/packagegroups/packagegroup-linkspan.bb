SUMMARY = "What a Linkspan gateway needs on a device"
DESCRIPTION = "The Linkspan gateway with what it needs on a device."

inherit packagegroup

RDEPENDS:${PN} = " \
    ca-certificates \
    linkspan-gateway \
"
