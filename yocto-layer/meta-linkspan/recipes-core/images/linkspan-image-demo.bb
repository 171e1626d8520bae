SUMMARY = "A small image with a Linkspan gateway and a way to log in"
DESCRIPTION = "A bootable image with the Linkspan gateway and an SSH server, to try it on a board or in qemu."
LICENSE = "Apache-2.0"

inherit core-image

IMAGE_FEATURES += "ssh-server-dropbear"
IMAGE_INSTALL += "packagegroup-linkspan"
