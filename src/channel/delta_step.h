/*
 * The part that deltas have in publishing an event to a channel with a state (delta_state.h): whether it takes part,
 * its number, and the frames that its subscribers get. On the publisher's thread.
 *
 *   begin: the state is locked, the base chosen, the frames encoded
 *   the event is posted under the channel's mutex
 *   end: the text becomes the base of the next event, the state is unlocked
 */
#pragma once

#include "channel/delta_state.h"

/* What the subscribers that take deltas get of an event; a publication without it goes to all as it is. */
struct delta_frames {
    struct frame *whole;                    /* the event with its number and key */
    struct frame *deltas[DELTA_ALGORITHMS]; /* NULL: whole */
    struct delta_base base;                 /* of the deltas */
    enum app_delta_algorithm algorithm;     /* of TAKES_DEFAULT */
    bool only_for_askers;                   /* only for those that asked for deltas themselves */
    bool omits_algorithm;                   /* the delta does not say that it is Fossil's */
};

void delta_frames_free(struct delta_frames *frames);

struct delta_step {
    struct channel_hub *hub;
    struct channel *channel;
    struct worker *worker;
    struct delta_state *state; /* locked; NULL: the event does not take part */
    size_t *work;              /* see struct channel_event */
    struct delta_sent sent;
    struct buffer key;
};

/* Begins the step for an event of the publication, and gives this its frames if the event takes part. */
void delta_step_begin(struct delta_step *step, struct delta_state *state, struct worker *worker,
                      const struct channel_event *event, struct publication *publication);
/* Ends the step. `posted`: the publication has a number now. The caller does not hold the channel's mutex. True if
 * there may be texts too many now (delta_state_shrink), which has time until the subscribers are woken. */
bool delta_step_end(struct delta_step *step, const struct publication *publication, bool posted);
