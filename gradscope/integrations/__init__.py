"""Where other programs meet gradscope: one module for each, which alone imports it."""
