/*
 * The providers of credentials that AWS runs beside a program: the agent of an ECS or EKS container, and the metadata
 * service of an EC2 instance. Both answer over plain HTTP at an address of the machine itself.
 */
#pragma once

#include "aws/provider.h"

/* The agent that AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI names. */
provider_function container_credentials_fetch;

/* The role of the instance, over IMDSv2. Without an answer there is no EC2 instance: PROVIDER_NOT_SET_UP. */
provider_function instance_credentials_fetch;
