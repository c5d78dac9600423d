#!/bin/sh
# Build FFmpeg from Debian's source package into /opt/ffmpeg.
#
# All built-in decoders, demuxers and filters stay: the service decides which of them a source may use,
# and its messages name what was refused. Left out are network, devices, and muxers and encoders of unneeded formats.
# Compressed PTX (code for GPUs) would contain the time of the build.
set -eu

apt-get source --quiet ffmpeg
cd ffmpeg-*/
version=$(dpkg-parsechangelog --show-field Version)

./configure --prefix=/opt/ffmpeg --enable-rpath --extra-version="${version#*-}" --toolchain=hardened \
    --enable-shared --disable-static --disable-debug --disable-doc --disable-ffplay \
    --disable-autodetect --enable-gpl --enable-zlib --enable-libdav1d --enable-libx264 --enable-libzimg \
    --enable-ffnvcodec --enable-nvenc --enable-nvdec --enable-cuvid --enable-cuda-llvm --disable-ptx-compression \
    --disable-network --disable-indevs --enable-indev=lavfi --disable-outdevs \
    --disable-protocols --enable-protocol=concat,concatf,file,pipe,subfile \
    --disable-encoders --enable-encoder=aac,h264_nvenc,libx264,mjpeg,pcm_f32le,pcm_s16le,png,ppm,rawvideo,wrapped_avframe \
    --disable-muxers --enable-muxer=framecrc,image2,matroska,mov,mp4,mpegts,null,nut,rawvideo,segment,tee,wav

make --jobs "$(nproc)"
make install
strip --strip-unneeded /opt/ffmpeg/bin/* /opt/ffmpeg/lib/*.so.*
rm -r /opt/ffmpeg/include /opt/ffmpeg/share /opt/ffmpeg/lib/pkgconfig
install -D --mode 644 --target-directory /opt/ffmpeg/licences COPYING.GPLv2 LICENSE.md debian/copyright
echo "$version" > /opt/ffmpeg/licences/version
