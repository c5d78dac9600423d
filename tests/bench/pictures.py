"""The contents that quality is measured on: drawn by ffmpeg, and clips where there are any."""

from __future__ import annotations

from typing import Final

RATE: Final = 25
SIZE: Final = "1920x1080"
STILL: Final = f"mandelbrot=size={SIZE}:rate=1:maxiter=300:start_scale=0.02,loop=-1:1,fps={RATE}"
SPEAKER: Final = (
    f"mandelbrot=size=540x660:rate={RATE}:start_scale=0.4:end_scale=0.3:maxiter=250,format=yuva420p,"
    "geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='255*lt(hypot((X-270)/262,(Y-330)/322),1)'"
)
# Two outlined shapes that move over a scrolling wall.
FLAT: Final = (
    f"color=c=#7fb3d5:size={SIZE}:rate={RATE},drawgrid=w=240:h=1080:t=40:color=#a9cce3,"
    "scroll=horizontal=0.001,drawbox=x=0:y=900:w=1920:h=180:color=#27ae60:t=fill[wall];"
    f"color=c=#c0392b:size=330x270:rate={RATE},drawbox=t=6:color=black[car];"
    f"color=c=#f4d03f:size=210x210:rate={RATE},drawbox=t=6:color=black[sun];"
    "[wall][car]overlay=x='mod(240*t,2100)-300':y=630[road];"
    "[road][sun]overlay=x='1350-135*t':y='300+90*sin(3*t)'"
)
# A new page of small marks every two seconds, as dense as print.
PAGES: Final = (
    f"cellauto=size=2800x840:rate=1:rule=110:random_seed=7,negate,loop=-1:1,fps={RATE},"
    "crop=1600:840:x='400*mod(floor(t/2),4)':y=0"
)
# Clips of the collection in ../shared/media, where it is.
CLIPS: Final = {
    "sea (film)": "karma.mp4",
    "rabbit (film)": "bigbuckbunny.mp4",
    "bird (camera)": "cockatoo.mp4",
    "concert (dark)": "sowt-with-video.mov",
}
# Each content by name: a filter graph with one output, as `-f lavfi -i` takes it.
CONTENTS: Final = {
    "camera": (
        f"mandelbrot=size={SIZE}:rate={RATE}:start_scale=0.3:end_scale=0.05:maxiter=200,"
        "rotate=a=0.03*sin(2*t):fillcolor=gray,gblur=sigma=1,noise=alls=5:allf=t"
    ),
    "hard camera": (
        f"mandelbrot=size=2304x1296:rate={RATE}:start_scale=0.5:end_scale=0.001:maxiter=300,"
        "crop=1920:1080:x='192+180*sin(3*t)':y='108+105*cos(4*t)',noise=alls=12:allf=t"
    ),
    "CGI": (
        f"mandelbrot=size={SIZE}:rate={RATE}:start_scale=0.4:end_scale=0.02:maxiter=200[scene];"
        f"testsrc2=size=640x360:rate={RATE}[inset];[scene][inset]overlay=x='630+300*sin(t)':y='360+150*cos(t)'"
    ),
    "talking head": (
        f"{STILL},gblur=sigma=4.5[back];{SPEAKER}[head];"
        "[back][head]overlay=x='690+18*sin(1.7*t)':y='300+12*sin(2.3*t)',noise=alls=3:allf=t"
    ),
    "dark grain": (
        f"nullsrc=size=854x480:rate={RATE},"
        "geq=lum='16+24*X/W+8*sin(Y/90+T)':cb=128:cr=128,noise=alls=3:allf=t"
    ),
    "flat animation": FLAT,
    "slides": f"color=white:size={SIZE}:rate={RATE}[page];{PAGES}[print];[page][print]overlay=160:120",
    "noise": f"color=gray:size={SIZE}:rate={RATE},noise=c0s=100:c0f=t+u",
}
