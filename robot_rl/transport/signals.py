"""What learner and actors say to each other beside rows and weights."""

PAUSE, GO_ON, STOP = "pause_at_reset", "go_on", "stop"  # learner to actors
EVALUATE = "evaluate"  # learner to actors: {id, version, first_seed, episodes}, or {id: NO_EVALUATION}
NO_EVALUATION = ""
SCORE = "score"  # an actor's report of an evaluation episode: {id, seed, success, length}
