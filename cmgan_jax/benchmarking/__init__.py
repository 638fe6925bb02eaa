"""What a step costs: work counted on paper, ceilings and times measured, tables and plots of both."""
