/* Inside the library only: where geeps_last_error comes from. */
#ifndef GEEPS_ERROR_H
#define GEEPS_ERROR_H

/* Keeps a copy of `message` for this thread; cut where it is very long. */
void geeps_keep_error(const char *message);

#endif
