// The text for NVRTC: one after the other what cuda/host.c includes in the same order.

#include "geeps_cuda_kernels.h"

// C23's #embed: the text is that of the files, unescaped, and a build follows when one changes. The language
// of the target stays what it is; clang takes this much of the newer one.
#pragma clang diagnostic ignored "-Wc23-extensions"

static const char geeps_text[] = {
#embed "prelude.h"
    ,
#embed "../include/geeps_rules.h"
    ,
#embed "grid.h"
    ,
#embed "../elements.h"
    ,
#embed "../loops_body.h"
    ,
#embed "../lstm_elements.h"
    ,
#embed "../lstm_body.h"
    ,
#embed "rows.h"
    ,
#embed "layers.h"
    ,
#embed "lstm.h"
    , 0};

const char *geeps_cuda_source(void) { return geeps_text; }
