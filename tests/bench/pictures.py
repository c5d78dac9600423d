"""The contents that quality is measured on: drawn by ffmpeg, and clips where there are any."""

from __future__ import annotations

from typing import Final

RATE: Final = 25
SIZE: Final = "1280x720"
STILL: Final = f"mandelbrot=size={SIZE}:rate=1:maxiter=300:start_scale=0.02,loop=-1:1,fps={RATE}"
SPEAKER: Final = (
    f"mandelbrot=size=360x440:rate={RATE}:start_scale=0.4:end_scale=0.3:maxiter=250,format=yuva420p,"
    "geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='255*lt(hypot((X-180)/175,(Y-220)/215),1)'"
)
FLAT: Final = (
    f"color=c=#7fb3d5:size={SIZE}:rate={RATE},"
    "drawbox=x='mod(160*t,1400)-200':y=380:w=220:h=180:color=#c0392b:t=fill,"
    "drawbox=x='900-90*t':y='200+60*sin(3*t)':w=140:h=140:color=#f4d03f:t=fill,"
    "drawbox=x=0:y=600:w=1280:h=120:color=#27ae60:t=fill"
)
# Clips of the collection in ../shared/media, where it is.
CLIPS: Final = {"film": "karma.mp4", "rendered film": "bigbuckbunny.mp4", "bird": "cockatoo.mp4"}
# Each content by name: a filter graph with one output, as `-f lavfi -i` takes it.
CONTENTS: Final = {
    "camera": (
        f"mandelbrot=size={SIZE}:rate={RATE}:start_scale=0.3:end_scale=0.05:maxiter=400,"
        "rotate=a=0.03*sin(2*t):fillcolor=gray,gblur=sigma=0.7,noise=alls=5:allf=t"
    ),
    "hard camera": (
        f"mandelbrot=size=1920x1080:rate={RATE}:start_scale=0.5:end_scale=0.001:maxiter=600,"
        "crop=1280:720:x='320+300*sin(3*t)':y='180+170*cos(4*t)',noise=alls=12:allf=t"
    ),
    "CGI": f"testsrc2=size={SIZE}:rate={RATE}",
    "talking head": (
        f"{STILL},gblur=sigma=3[back];{SPEAKER}[head];"
        "[back][head]overlay=x='460+12*sin(1.7*t)':y='200+8*sin(2.3*t)',noise=alls=3:allf=t"
    ),
    "flat animation": FLAT,
    "slides": f"yuvtestsrc=size={SIZE}:rate={RATE},hue=h='90*floor(t/2)',trim=duration=60",
    "noise": f"nullsrc=size={SIZE}:rate={RATE},geq=lum='random(1)*255':cb=128:cr=128",
}
