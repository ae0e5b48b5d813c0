/* The shipped profiles and roles inside the program, so that one binary is enough. */
    .section .rodata
    .macro file symbol, path
    .globl pst_embed_\symbol
    .type pst_embed_\symbol, @object
pst_embed_\symbol:
    .incbin "\path"
    .byte 0
    .globl pst_embed_\symbol\()_end
    .type pst_embed_\symbol\()_end, @object
pst_embed_\symbol\()_end:
    .byte 0
    .endm

    file profile_rest, "policies/profiles/rest.yaml"
    file profile_mage, "policies/profiles/mage.yaml"
    file profile_mage_levels, "policies/profiles/mage-levels.yaml"
    file profile_mlflow, "policies/profiles/mlflow.yaml"
    file role_levels, "policies/roles/levels.yaml"
    file role_mage, "policies/roles/mage.yaml"
    file role_mlflow, "policies/roles/mlflow.yaml"
    file role_workspace, "policies/roles/workspace.yaml"

    .section .note.GNU-stack, "", @progbits
