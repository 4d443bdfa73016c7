"""What a checkpoint is and costs, told without reading its weights."""
