"""Follow the people in a video, print what each of them showed, and plot it over time.

python examples/video_timeline.py interview.mp4 timeline.png
"""

import sys

import mien

film, picture = sys.argv[1:]
summary = mien.analyze_video(film, fps=5, timeline=picture, to="faces.csv")
for person in summary.people:
    shown = ", ".join(f"{emotion} {seconds:.1f} s" for emotion, seconds in person.emotions.items())
    print(f"person {person.track}, {person.first:.1f} s to {person.last:.1f} s: {shown}")
