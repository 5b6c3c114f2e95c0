"""Speed, memory and accuracy side by side with others, in the same run; reached through the verb ``bench`` alone."""
