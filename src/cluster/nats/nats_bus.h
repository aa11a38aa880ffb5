/*
 * The driver `nats`: a bus on one or several NATS servers, of which one at a time is used.
 *
 * It is up while that server answers: it is asked every five seconds, and after each turn with new subscriptions. When
 * it does not answer for five seconds, or ends the connection (as it does with one that reads too slowly), the bus is
 * down, and connects to the next server.
 */
#pragma once

#include "cluster/bus.h"

extern const struct bus_driver nats_bus_driver;
