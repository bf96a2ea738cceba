"""Why an answer is what it is: by the words of its row, and by the tasks that trained the model.

`reading` finds the words behind tokens, `aims` the number that is explained, `explaining` attributes it, `sanity` holds
that against random weights, `influence` asks which task's training moves an answer, `lines` writes and reads what came
of it.
"""
