"""What every card says, whatever was measured: the only place of this room where numbers are written by hand.

They are years, laws and papers. What was measured comes from evaluations, through the other files.
"""

#: Of every interval in mien.
INTERVAL = "95 %"
ECE = "Guo et al. 2017, arXiv:1706.04599"

FORM = "Its form follows Mitchell et al. 2019 (arXiv:1810.03993)."
SHEET_FORM = "Its questions follow Gebru et al. 2021 (arXiv:1803.09010)."

USES = (
    "**Meant for** naming the expression that people would see on one upright, roughly frontal face, "
    "cropped and grey: research and teaching, comparison of methods, sorting one's own pictures, "
    "interfaces and art whose audience knows and agrees.",
    "**Meant for whom**: researchers, teachers, students and developers who can measure on their own images "
    "before they rely on an answer.",
    "**Not meant for** saying what somebody feels, thinks or intends, whether they tell the truth, how "
    "healthy they are or what their character is.",
    "**Not meant for** decisions about people: hiring, grading, credit, insurance, policing, borders, care. "
    "Nor for watching people who were not told.",
    "**Not measured on** faces seen from the side, masked or drawn faces, animals, or images of other crops, "
    "sizes and cameras than those below.",
)

FACTORS = (
    "What may change how well it does: age, gender, skin colour and culture of the person; how strong and "
    "how posed the expression is; pose of the head, light, blur, compression, glasses, hair, hands and "
    "masks; and how the face was cropped.",
    "What was looked at: the classes, one by one. The data name none of the other factors, so no figure "
    "here is broken down by them, and nothing here shows that the model does equally well for everyone.",
)
#: The last of them where groups were scored; `{}` takes what they were told apart by.
FACTORS_OF_GROUPS = (
    "What was looked at: the classes, one by one, and groups by {}. By no other factor is a figure here "
    "broken down, and nothing here shows that the model does equally well for everyone."
)

ETHICS = (
    "**Apparent, not felt.** An answer is the expression that people would name on the face. Whoever looks "
    "angry need not be: how feelings show differs between cultures, situations and people (Barrett et al. "
    "2019, Psychological Science in the Public Interest 20:1, doi:10.1177/1529100619832930).",
    "**Law.** In the European Union, Regulation 2024/1689 prohibits inferring emotions at the workplace "
    "and in education since 2 February 2025, but for medical or safety reasons (Art. 5(1)(f)). Other "
    "emotion recognition is high-risk (Annex III 1(c); its date of application was moved in 2026, so "
    "check it), and people exposed to it must be told (Art. 50(3)). Other countries have laws of their "
    "own.",
    "**Fairness.** Among models for this task the most accurate were found to be among the most biased "
    "(arXiv:2502.11049), and the labels happy and angry to depend on the gender of who is shown "
    "(arXiv:2108.08504). A good mean can hide a group that is served badly: score groups of your own people, "
    "with intervals.",
    "**Faces are personal data.** Ask before you take them, keep no more than you need, and say what for.",
)

FER2013 = (
    "FER2013 was gathered by web search for words of emotion (Goodfellow et al. 2013, arXiv:1307.0414). "
    "No licence of the images' owners is known, and nobody is known to have asked the people shown. None "
    "of the images is in the model or shipped with it, but whoever uses weights trained on them should "
    "know this."
)
FER2013_PERHAPS = (
    "If these images are FER2013's, under whatever file name, this holds: they were gathered by web search "
    "(Goodfellow et al. 2013, arXiv:1307.0414), no licence of their owners is known, and nobody is known to "
    "have asked the people shown."
)
FERPLUS = (
    "FER+'s votes, ten people's for every image, are under the MIT licence (microsoft/FERPlus; Barsoum et "
    "al. 2016, arXiv:1608.01041)."
)
UNKNOWN_DATA = (
    "Where these images come from, whether their owners and the people shown agreed, and who chose the "
    "labels, their data set must say: none of it can be read from files."
)

CAVEATS = (
    "The intervals are of the sampling of images. They say nothing about how much another training seed "
    "would move a figure, nor about images of another kind.",
    "Labels are opinions: faces that people disagree on are counted wrong whatever the answer. An "
    "accuracy is how often the model repeats a label, not how often it is right about a person.",
    "Confidence says something of images like those above. On others it may be far too high; measure "
    "before you believe it.",
    "Every image gets an answer, even one without a face. Find the face first, and leave out what is too "
    "small, too blurred or cut.",
)

#: What a datasheet asks and no file answers, by heading. Filled in where the data are FER2013.
QUESTIONS = {
    "Motivation": (
        "For what purpose were the images gathered, by whom, and who paid for it?",
        "What gap were they to fill?",
    ),
    "Composition": (
        "Whom do they show: ages, genders, countries? Were minors among them?",
        "Are they a sample of something larger, and how was it drawn?",
        "Can people be recognised? Does anything shown offend or harm?",
    ),
    "Collection": (
        "How and when were the images taken or found, and by whom?",
        "Did the people shown know and agree? Can they withdraw?",
        "Was an ethics board asked?",
    ),
    "Labels": (
        "Who chose the labels, from what instruction, and how often do two people agree?",
        "Are the raw images kept?",
    ),
    "Uses": (
        "For what have the images been used, and for what should they not be?",
        "Which groups are too few in them to rely on?",
    ),
    "Distribution": (
        "Under what licence or agreement may the images be passed on, and to whom?",
        "Do other parties hold rights in them?",
    ),
    "Maintenance": (
        "Who keeps them, and how can one reach them?",
        "How are errors mended and images of people who withdraw removed?",
    ),
}

FER2013_ANSWERS = {
    "Motivation": (
        "FER2013 was made by Pierre-Luc Carrier and Aaron Courville for a contest in representation "
        "learning at ICML 2013 (Goodfellow et al. 2013, arXiv:1307.0414)."
    ),
    "Composition": (
        "Faces that differ in age, pose, light and what covers them. Some images show no face, as FER+'s "
        "taggers said, and some stand several times, also across splits. Who is shown is not recorded."
    ),
    "Collection": FER2013,
    "Labels": (
        "Each image has the label of the words it was searched with, checked by people. Many labels are not "
        "what most people see on the face, which FER+'s votes were gathered to show."
    ),
    "Uses": (
        "Research on the recognition of expressions, and comparison with what others measured on it. It "
        "is too small and too uneven to say anything about groups of people."
    ),
    "Distribution": (
        "It can be had where the contest was held, on Kaggle. No licence of the images' owners is known, "
        "so do not pass it on."
    ),
    "Maintenance": "No version after the contest's is known, nor a way for the people shown to have an "
    "image removed.",
}
