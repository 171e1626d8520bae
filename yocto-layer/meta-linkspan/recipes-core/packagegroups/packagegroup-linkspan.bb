SUMMARY = "What a Linkspan gateway needs on a device"

inherit packagegroup

RDEPENDS:${PN} = " \
    ca-certificates \
    linkspan-gateway \
"
