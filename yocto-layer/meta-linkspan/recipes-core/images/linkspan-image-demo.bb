SUMMARY = "A small image with a Linkspan gateway and a way to log in"
LICENSE = "Apache-2.0"

inherit core-image

IMAGE_FEATURES += "ssh-server-dropbear"
IMAGE_INSTALL += "packagegroup-linkspan"
