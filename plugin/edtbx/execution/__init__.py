"""Where and with how much memory frames are computed: threads, processes, clusters."""
