import ElideIO
