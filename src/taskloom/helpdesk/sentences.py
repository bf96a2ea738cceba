"""What stands around the core of a message: openings, fillers, closings and an agent's lines, none with a value."""

from __future__ import annotations

from taskloom.helpdesk.grammar import Wordings, wordings

OPENINGS: Wordings = wordings(
    """
    Hello!
    Hi there.
    Good morning.
    Dear support team!
    Hi!
    Hello everyone.
    To whom it may concern:
    Good day.
    Hello support.
    I have a question.
    Can somebody help me?
    Here is my problem.
    """,
    """
    Hey team!
    Good afternoon.
    Dear sir or madam:
    I need some help.
    Quick question:
    """,
    """
    Greetings.
    Good evening.
    Hey folks!
    Dear service desk:
    I am contacting you about the following.
    A word about my case:
    """,
)

FILLERS: Wordings = wordings(
    """
    I have been a customer for six years.
    This was the first time that I bought from you.
    My neighbour recommended your shop to me.
    I looked at the help page but did not find an answer.
    It is for my sister, who lives with us.
    We use it almost every day.
    I usually shop with you at the weekend.
    I wrote the details down below.
    The weather has been awful here as well.
    My husband set everything up back then.
    I can send you a photo.
    I hope that I am writing to the right address.
    I am at work until five in the afternoon.
    You can reach me by phone or by mail.
    I have read the questions and answers on your site.
    My English is not perfect, sorry.
    We are a small school with two offices.
    I am not very good with these things.
    The chat was closed when I tried it.
    Everything else was fine so far.
    """,
    """
    I have shopped here for a long time.
    A friend told me about you.
    I did search the forum first.
    I work from home most days.
    My daughter helps me to write this.
    We run a little cafe.
    It was meant to be a present.
    """,
    """
    I have been buying from your company for a decade.
    My colleague suggested that I get in touch.
    I browsed your help section without luck.
    Our household shares one mailbox.
    I am writing this on the train.
    My grandson normally takes care of such matters.
    We are a family of five.
    Feel free to ring me in the evening.
    It is the second thing that I have bought from you.
    """,
)

CLOSINGS: Wordings = wordings(
    """
    Regards.
    Best regards.
    Best wishes.
    Yours sincerely.
    I look forward to your answer.
    Please let me know.
    Bye for now.
    """,
    """
    Kind regards.
    Hoping to hear from you.
    Yours truly.
    """,
    """
    With best greetings.
    Sincerely.
    I await your reply.
    Until then.
    """,
)

AGENT_LINES: Wordings = wordings(
    """
    Agent: Thank you for writing, I am looking into it.
    Agent: I have opened a ticket for you.
    Agent: Let me check that with my colleagues.
    Agent: I am sorry to hear that.
    Agent: May I ask you for a photo?
    Agent: I have passed this on to the team.
    """,
    """
    Agent: Thanks, one moment please.
    Agent: I will get back to you soon.
    Agent: Our team is on it.
    """,
    """
    Agent: I appreciate the details, give me a minute.
    Agent: My apologies for the inconvenience.
    Agent: We are examining your case.
    Agent: Noted, somebody will be in touch.
    """,
)

REPLY_QUESTIONS: Wordings = wordings(
    """
    Which reply should the agent send?
    What is the best answer to this customer?
    Which of these replies fits the message?
    How should the help desk answer?
    """,
    """
    Which response is right for this request?
    What should the agent write back?
    """,
    """
    Pick the reply that solves the customer's problem.
    Which answer suits the message best?
    What would a good agent respond?
    """,
)
