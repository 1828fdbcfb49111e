"""Follow the people in a video, print what each of them showed, and plot it over time.

python examples/video_timeline.py interview.mp4 timeline.png
"""

import argparse

import mien

parser = argparse.ArgumentParser(description="Print what each person in a video showed, and plot it.")
parser.add_argument("film")
parser.add_argument("timeline", help="the file of the plot, such as timeline.png")
options = parser.parse_args()
try:
    summary = mien.analyze_video(options.film, fps=5, timeline=options.timeline, to="faces.csv")
except mien.MienError as error:
    parser.error(str(error))
for person in summary.people:
    shown = ", ".join(f"{emotion} {seconds:.1f} s" for emotion, seconds in person.emotions.items())
    print(f"person {person.track}, {person.first:.1f} s to {person.last:.1f} s: {shown}")
